"""A run is opened by one line, by what it says of itself."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import arena
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_former_versions import FIXTURES

import jaxrnn
from experiments.language_model.config import PRESETS as LANGUAGE_MODELS
from experiments.language_model.problem import make_problem as make_text
from experiments.long_lag.config import PRESETS as LONG_LAGS
from experiments.long_lag.trials import make_trials
from experiments.music.config import PRESETS as MUSIC
from experiments.music.selection import make_selection
from experiments.sentiment.config import PRESETS as SENTIMENTS
from experiments.sentiment.problem import make_problem as make_texts
from experiments.state_tracking.config import PRESETS as STATES
from experiments.state_tracking.problem import make_problem as make_states
from experiments.translation.config import PRESETS as TRANSLATIONS
from experiments.translation.problem import make_problem as make_pairs
from jaxrnn.training import CheckpointStore, Opened, Run
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.store.saved_array import SavedArray


def begun(folder, presets, make_trainer, **changes):
    """The folder of a run of the preset for tests, as it is before its first step."""
    config = replace(presets["tiny"][1], run_dir=folder, cell="elman", **changes)
    with Run(make_trainer(config), config) as run:
        run.store.save(0, run.state)
    return folder


def by(make_problem):
    return lambda config: config.make_trainer(make_problem(config))


@pytest.fixture
def text(tmp_path):
    return arena.Arena.create(tmp_path).text


def test_a_language_model_goes_on_from_a_prompt_and_judges_a_text(text, tmp_path):
    folder = begun(tmp_path / "run", LANGUAGE_MODELS, by(make_text), data=text)
    write = jaxrnn.load(str(folder))
    assert write("the cat", 9) == write("the cat", 9) != write("the cat", 9, seed=1)
    assert write("the cat", 9).startswith("the cat")
    read = text.read_text()[:50]
    tokens = jnp.asarray(write.tokenizer.encode(read.encode()), jnp.int32)
    _, logits = write.model(tokens)
    shares = jax.nn.softmax(logits)[jnp.arange(49), tokens[1:]]
    np.testing.assert_allclose(np.exp(-write.nats(read)), shares, rtol=1e-5)
    assert "prompt: str" in repr(write) and "goes on with" in repr(write)


def test_a_classifier_answers_with_a_class(tmp_path):
    classify = jaxrnn.load(begun(tmp_path, SENTIMENTS, by(make_texts)))
    answers = classify("the film was great", "the plot was dull")
    assert set(answers) <= {"negative", "positive"} and len(answers) == 2
    with pytest.raises(ValueError, match="which text"):
        classify()


def test_a_translator_answers_with_a_sentence(tmp_path):
    translate = jaxrnn.load(begun(tmp_path, TRANSLATIONS, by(make_pairs)))
    first, second = translate("a b c", "d e", beam=1)
    assert {*first, *second} <= {*"αβγδεζηθ <>/unks"}
    with pytest.raises(ValueError, match="at least one word, got ' '"):
        translate(" ")


@pytest.mark.parametrize("candidates", [1, 2])
def test_a_model_of_music_hears_the_next_frame(tmp_path, candidates):
    hear = jaxrnn.load(begun(tmp_path, MUSIC, make_selection, candidates=candidates))
    shares = hear(np.zeros((5, 88), np.uint8))
    assert shares.shape == (5, 88) and np.all((0 < shares) & (shares < 1))


def test_a_network_that_keeps_a_state_answers_after_every_symbol(tmp_path):
    answer = jaxrnn.load(begun(tmp_path, STATES, by(make_states)))
    assert answer(np.array([0, 1, 1])).shape == (3,)
    with pytest.raises(ValueError, match=r"symbols of parity lie in \[0, 2\)"):
        answer(np.array([2]))


def test_networks_over_long_lags_answer_one_by_one(tmp_path):
    answer = jaxrnn.load(begun(tmp_path, LONG_LAGS, make_trials))
    xs = np.zeros((4, answer.network.cell.input_size))
    assert answer(xs).shape == (3, 4, answer.network.output_size)


@pytest.mark.parametrize("name", ["run_before_0_1", "run_0_1", "long_lag_0_1"])
def test_a_run_of_before_a_run_told_what_opens_it_is_known_by_its_options(name):
    assert "opened_by" not in json.loads((FIXTURES / name / "config.json").read_text())
    opened = jaxrnn.load(FIXTURES / name)
    kind = "long_lag" if name.startswith("long_lag") else "language_model"
    assert type(opened).__module__.endswith(f"experiments.{kind}.run")


def test_the_best_step_and_the_latest_are_read_and_nothing_but_parameters(
    text, tmp_path, monkeypatch
):
    folder = begun(tmp_path / "run", LANGUAGE_MODELS, by(make_text), data=text)
    best = nnx.split(jaxrnn.load(folder).model)[1]
    worse = jax.tree.map(lambda leaf: 2 * leaf, best)
    with CheckpointStore(folder) as store:
        store.save(1, {"params": best, "opt_state": worse}, loss=1.0)
        store.save(2, {"params": worse, "opt_state": best}, loss=2.0)
    read = []
    monkeypatch.setattr(
        SavedArray,
        "_read",
        lambda self, part, whole=SavedArray._read: (
            read.append(self._path) or whole(self, part)
        ),
    )
    for step, want in ("best", best), ("latest", worse):
        opened = jaxrnn.load(folder, step=step)
        chex.assert_trees_all_equal(nnx.split(opened.model)[1], want)
    assert len(read) == 2 * len(jax.tree.leaves(best))
    assert all(path.startswith("params/") for path in read)
    with pytest.raises(ValueError, match="'best' or 'latest', got 'newest'"):
        jaxrnn.load(folder, step="newest")


def enter(folder, **changes):
    config = asdict(LANGUAGE_MODELS["tiny"][1]) | changes
    RunDirectory(folder).enter(config)
    return folder


def test_what_cannot_be_opened_is_told_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="no run at"):
        jaxrnn.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="there is no file .*tokenizer.json"):
        jaxrnn.load(enter(tmp_path / "untrained"))
    RunDirectory(tmp_path / "own").enter({"steps": 3})
    with pytest.raises(ValueError, match="does not tell what opens it"):
        jaxrnn.load(tmp_path / "own")
    for name in ("gone.away:Trained", "json:loads", "jaxrnn.training:Run", "json", ":", ""):
        folder = enter(tmp_path / "named", opened_by=name or "nothing")
        with pytest.raises(ValueError, match="is what trained it installed"):
            jaxrnn.load(folder)


def test_a_problem_of_ones_own_names_what_opens_its_runs(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from jaxrnn.training import Opened\n"
        "class Mine(Opened):\n"
        "    @classmethod\n"
        "    def load(cls, path, step='best'):\n"
        "        return cls()\n"
        "    def __call__(self, x):\n"
        "        '''Twice x.'''\n"
        "        return 2 * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    opened = jaxrnn.load(enter(tmp_path / "run", opened_by="mine:Mine"))
    assert isinstance(opened, Opened) and opened(3) == 6
    assert repr(opened) == "<mine: call it with (x): Twice x.>"


def test_opening_a_run_needs_no_command_line_nor_what_draws():
    script = (
        "import sys, jaxrnn; assert 'flax' not in sys.modules;"
        f"jaxrnn.load({str(FIXTURES / 'run_0_1')!r});"
        "print(*({'tyro', 'matplotlib', 'tqdm'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=arena.ROOT,
    )
    assert done.stdout.strip() == ""

"""What newcomers are likely to get wrong is told in a sentence, before it costs time."""

import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_loop import OPTIONS, Following

import jaxrnn
from jaxrnn import GRU, LSTM, Elman, unroll
from jaxrnn.data.tokenizer import Tokenizer
from jaxrnn.flax import RNN
from jaxrnn.models import Classifier, LanguageModel, MaxPooling, SequenceModel, sample
from jaxrnn.training import Options, Run, StopRequest


def test_layers_come_in_a_list_and_a_layer_as_one():
    rngs = nnx.Rngs(0)
    with pytest.raises(ValueError, match=r"SequenceModel takes its layers in one list"):
        SequenceModel(GRU(3, 8), 2, rngs=rngs)
    with pytest.raises(ValueError, match=r"LanguageModel takes its layers in one list"):
        LanguageModel(9, 3, GRU(3, 8), rngs=rngs)
    with pytest.raises(ValueError, match=r"Classifier takes its layers in one list"):
        Classifier(9, 3, GRU(3, 8), 2, pooling=MaxPooling(), rngs=rngs)
    with pytest.raises(ValueError, match=r"GRU.* takes 9 features, not 8"):
        SequenceModel([GRU(3, 8), GRU(9, 8)], 2, rngs=rngs)
    with pytest.raises(ValueError, match=r"RNN takes a cell, or a Stack of some, got"):
        RNN([LSTM(3, 8), LSTM(8, 8)], rngs=rngs)


def test_a_prompt_is_numbers_and_sampling_may_be_left_to_itself():
    model = LanguageModel(9, 3, [GRU(3, 8)], rngs=nnx.Rngs(0))
    prompt = jnp.array([[1], [2]])
    written = sample(model, prompt, 5, jax.random.key(0))
    assert written.shape == (5, 1) and ((0 <= written) & (written < 9)).all()
    with pytest.raises(ValueError, match=r"prompt must be \[T, B\] .* got \(\)"):
        sample(model, "ab", 5, jax.random.key(0))


def test_a_tokenizer_is_of_a_kind_that_there_is_and_reads_bytes():
    with pytest.raises(ValueError, match="character or byte or word, got 'words'"):
        Tokenizer.of("words", b"a b")
    for read in (lambda t: Tokenizer.of("character", t), Tokenizer.of("word", b"a").encode):
        with pytest.raises(ValueError, match="given as bytes, such as text.encode()"):
            read("a text")


@pytest.mark.parametrize(
    "given, told",
    [
        ({"on_nan": "ignore"}, "unknown on_nan 'ignore'; known: skip, stop, rollback"),
        ({"schedule": "linear"}, "unknown schedule 'linear'; known: constant, cosine"),
        ({"matmul_precision": "tf32"}, "unknown matmul_precision 'tf32'"),
        ({"log_to": "paper"}, "unknown log_to 'paper'; known: tensorboard, None"),
        ({"steps": 4.5}, "steps must be a whole number, got 4.5"),
    ],
    ids=str,
)
def test_an_option_is_one_of_its_choices(given, told):
    with pytest.raises(ValueError, match=told):
        Options(**given)


def test_a_whole_number_may_be_written_with_a_point():
    options = Options(steps=1e3, patience=np.float64(2))
    assert repr(options.steps) == "1000" and repr(options.patience) == "2"


def train(tmp_path, problem):
    options = replace(OPTIONS, run_dir=tmp_path, steps=2, schedule="constant")
    with (
        jax.numpy_dtype_promotion("standard"),
        Run(options.make_trainer(problem), options) as run,
    ):
        return run.train(StopRequest())


@pytest.mark.parametrize(
    "given, told",
    [
        (lambda loss, carry, metrics: loss, "gives three: .* got one value"),
        (lambda loss, carry, metrics: (loss, metrics), "gives three: .* got 2 of them"),
        (lambda loss, *rest: (loss[None], *rest), r"a loss is one number, .* \[1\]"),
    ],
)
def test_a_loss_that_gives_too_little_is_told(tmp_path, given, told):
    class Short(Following):
        def loss(self, *arguments):
            return given(*super().loss(*arguments))

    with pytest.raises(ValueError, match=told):
        train(tmp_path, Short())


def test_an_evaluation_that_cannot_be_counted_is_told_before_training(tmp_path):
    class Once(Following):
        def evaluation(self, split):
            return (np.zeros((1, 1)) for _ in range(2))

    with pytest.raises(ValueError, match="evaluation gives a list of batches or None"):
        train(tmp_path, Once())
    assert not (tmp_path / "metrics.jsonl").read_text()


def test_speed_is_told_in_what_is_counted(tmp_path, capsys):
    class Words(Following):
        tokens_per_step = 7

    train(tmp_path / "rows", Following())
    assert "rows/s" in capsys.readouterr().out
    train(tmp_path / "words", Words())
    assert "tokens/s" in capsys.readouterr().out


def test_a_cell_of_ones_own_that_is_not_frozen_is_told_so():
    class Mine(Elman):
        __hash__ = None  # as a dataclass has it that is not frozen

    cell = Mine(3, 4)
    params = Elman(3, 4).init(jax.random.key(0))
    with pytest.raises(ValueError, match="Mine must be a dataclass with frozen=True"):
        unroll(cell, params, jnp.ones((5, 3)))


def test_a_part_needs_no_import_of_its_own():
    code = (
        "import sys, jaxrnn\n"
        "assert not {'flax', 'optax', 'orbax'} & set(sys.modules)\n"
        "print(jaxrnn.flax.RNN, 'models' in dir(jaxrnn), jaxrnn.training.Options)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="module 'jaxrnn' has no attribute 'lstm'"):
        jaxrnn.lstm  # noqa: B018

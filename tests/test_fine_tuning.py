"""A run begins with the parameters of another one: better, exactly, then on its own."""

import json
import shutil
import signal
from dataclasses import replace

import arena as moments
import chex
import numpy as np
import pytest
from arena import Arena, Blow, result

import jaxrnn
from experiments.language_model import train
from experiments.language_model.config import PRESETS
from experiments.sentiment import train as train_sentiment
from experiments.sentiment.config import PRESETS as SENTIMENTS
from experiments.sentiment.data import Corpus, Example
from experiments.sentiment.problem import make_problem as make_texts
from experiments.translation.config import PRESETS as TRANSLATIONS
from experiments.translation.problem import make_problem as make_pairs
from jaxrnn.training import Run, digest_tree, read_metrics
from jaxrnn.training.trainer import Trainer


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    """With a second text, of the first one's words and one more."""
    arena = Arena.create(tmp_path_factory.mktemp("fine_tuning"))
    lines = arena.text.read_text().splitlines()
    other = "\n".join(f"{line} quiz" for line in lines[:200])
    (arena.home / "other.txt").write_text(other, encoding="utf-8")
    return arena


SIZES = {"hidden_size": 16, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def former(arena):
    folder = arena.home / "former"
    done = arena.start(arena.options(folder, **SIZES, steps=40))
    assert done.returncode == 0, done.stderr
    return folder


def options(arena, name, former, **changes):
    data = arena.home / "other.txt"
    changes = SIZES | {"data": data, "init_from": former} | changes
    return arena.options(arena.home / name, **changes)


def losses(folder):
    rows = read_metrics(folder / "metrics.jsonl")
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.slow
def test_a_run_begins_with_another_and_needs_it_no_more(arena, former, call):
    done = arena.start(options(arena, "whole", former))
    assert done.returncode == 0, done.stderr
    assert f"beginning with step {result(former)['best_step']} of {former}" in done.stdout

    copy = arena.home / "copy"
    shutil.copytree(former, copy)
    arguments = options(arena, "cut", copy)
    struck = arena.start(arguments, Blow(moments.UPDATE, 13, signal.SIGKILL))
    assert struck.returncode == 128 + signal.SIGKILL
    shutil.rmtree(copy)
    again = arena.start(arguments)
    assert again.returncode == 0, again.stderr
    whole, cut = arena.home / "whole", arena.home / "cut"
    assert result(cut)["state_sha256"] == result(whole)["state_sha256"]
    assert losses(cut) == losses(whole)

    config = json.loads((whole / "config.json").read_text())
    began = jaxrnn.load(former)
    assert config["init_step"] == result(former)["best_step"]
    assert jaxrnn.load(whole).tokenizer == began.tokenizer

    scratch = arena.options(
        arena.home / "scratch", data=arena.home / "other.txt", **SIZES, steps=1
    )
    code, _, error = call(train.main, *scratch)
    assert code == 0, error
    assert losses(whole)[0] < losses(arena.home / "scratch")[0] - 0.3

    other = arena.home / "another"
    code, _, error = call(train.main, *options(arena, "whole", other))
    assert (code, error.count("\n")) == (2, 1)
    assert f"init_from was '{former}' and is now '{other}'" in error
    assert "sha256" not in error


def test_a_run_that_was_drawn_does_not_begin_anew_with_another(arena, former, call):
    arguments = arena.options(former, **SIZES, steps=40)
    code, _, error = call(train.main, *arguments, "--init-from", arena.home / "whole")
    assert code == 2 and "init_from was None and is now" in error


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"hidden_size": 8}, "(hidden_size was 16 and is now 8"),
        ({"cell": "gru"}, "cell was 'lstm' and is now 'gru'"),
        ({"tokens": "byte"}, "reads a character at a time: cannot begin with it and"),
        ({"init_from": "no/such/run"}, "no run at "),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(arena, former, call, changes, reason):
    arguments = options(arena, "misfit", former, **changes)
    code, _, error = call(train.main, *arguments)
    assert (code, error.count("\n")) == (2, 1)
    assert reason in error
    assert not (arena.home / "misfit" / "config.json").exists()


def test_a_run_of_another_problem_is_refused(arena, former, call):
    arguments = "tiny", "--init-from", former, "--run-dir", arena.home / "sentiment"
    code, _, error = call(train_sentiment.main, *arguments, "--tokens", "character")
    assert code == 2 and error.count("\n") == 1 and "labels.json" in error


def begun(folder, config, make_problem):
    config = replace(config, run_dir=folder, cell="elman")
    with Run(config.make_trainer(make_problem(config)), config) as run:
        run.store.save(0, run.state)
        return run


def test_a_state_begins_with_what_it_is_given_its_optimiser_and_averages_too(tmp_path):
    config = replace(PRESETS["tiny"][1], average=0.9, optimiser="adam")
    problem = make_texts(SENTIMENTS["tiny"][1])
    trainer = config.make_trainer(problem)
    assert isinstance(trainer, Trainer)
    given = trainer.init(1).params
    state = trainer.init(0, given)
    chex.assert_trees_all_equal(state.params, given)
    chex.assert_trees_all_equal(state.averages, given)
    drawn = trainer.init(0)._replace(params=given, averages=given)
    chex.assert_trees_all_equal(state.opt_state, drawn.opt_state)
    assert digest_tree(state) == digest_tree(drawn)


def test_a_classifier_takes_words_and_labels_along(tmp_path):
    table = tmp_path / "reviews.tsv"
    good = [f"good\tvery fine number{n}" for n in range(40)]
    bad = [f"bad\tvery dull number{n}" for n in range(40)]
    table.write_text("\n".join([*good, *bad]), encoding="utf-8")
    config = replace(SENTIMENTS["tiny"][1], corpus="table", data=table)
    former = begun(tmp_path / "former", config, make_texts)

    table.write_text("\n".join([*bad, *(line.replace("good", "fair") for line in good)]))
    config = replace(config, init_from=tmp_path / "former")
    with pytest.raises(ValueError, match="labels 'fair' are none of .*: 'bad', 'good'"):
        begun(tmp_path / "later", config, make_texts)
    table.write_text("\n".join([*good, *bad, "good\tmarvellous"]), encoding="utf-8")
    later = begun(tmp_path / "later", config, make_texts)
    assert later.problem.files == former.problem.files
    chex.assert_trees_all_equal(later.state.params, former.state.params)


def test_labels_are_numbered_as_they_were_learned():
    corpus = Corpus(("a", "c"), {"train": [Example("x", 0), Example("y", 1)]})
    relabelled = corpus.labelled_as(("c", "b", "a"))
    assert relabelled.labels == ("c", "b", "a")
    assert relabelled.splits["train"] == [("x", 2), ("y", 0)]


def test_a_translator_takes_both_vocabularies_along(tmp_path):
    pairs = tmp_path / "pairs.txt"
    lines = [f"a {'b ' * (n % 3)}n{n % 50}\tc d{n % 7}" for n in range(300)]
    pairs.write_text("\n".join(lines), encoding="utf-8")
    config = replace(TRANSLATIONS["tiny"][1], corpus="pairs", data=pairs)
    former = begun(tmp_path / "former", config, make_pairs)
    pairs.write_text("\n".join(lines[:200] + ["new words\there too"] * 100))
    config = replace(config, init_from=tmp_path / "former")
    later = begun(tmp_path / "later", config, make_pairs)
    assert later.problem.files == former.problem.files
    np.testing.assert_equal(
        digest_tree(later.state.params), digest_tree(former.state.params)
    )
    with pytest.raises(ValueError, match="has the tokens 'word': cannot begin"):
        make_pairs(replace(config, tokens="bpe", run_dir=tmp_path / "parts"))

"""The published recipes: their sizes, their schedules, and a few steps of each kind."""

import os
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.language_model import ptb_char
from experiments.language_model.config import PRESETS
from experiments.language_model.model import make_model
from experiments.language_model.options import Config
from experiments.language_model.problem import make_problem
from experiments.language_model.recipes import RECIPES
from jaxrnn.training.state import count

PTB, CHARACTERS = 10_000, 51  # with the one that stands for what training never saw

# Millions of parameters, as published.
PUBLISHED = {
    "ptb-small": 4.65,
    "ptb-medium": 20,
    "ptb-large": 66,
    "ptb-small-tied": 2.65,
    "ptb-large-tied": 51,
    "melis-10m": 10,
    "awd-lstm": 24,
    "mogrifier": 24,
}


def parameters(name, vocabulary):
    return count(make_model(PRESETS[name][1], vocabulary).like)


@pytest.mark.parametrize("name, millions", PUBLISHED.items())
def test_a_recipe_has_the_published_number_of_parameters(name, millions):
    digits = len(f"{millions}".partition(".")[2])
    assert round(parameters(name, PTB) / 1e6, digits) == millions


def test_of_awd_lstm_it_is_the_published_number_exactly():
    # PyTorch adds two biases to the gates where one is enough.
    assert parameters("awd-lstm", PTB) + 4 * (1150 + 1150 + 400) == 24_221_600


def test_of_the_models_of_characters_it_is_that_beside_an_embedding():
    # Ha et al. 2016 have one-hot inputs of 50 characters: 4.25M and 4.26M.
    embedding = CHARACTERS * 50 + 1001
    assert parameters("ptb-char", CHARACTERS) - embedding == 4 * 1000 * 1051 + 1001 * 50
    assert round((parameters("ptb-char", CHARACTERS) - embedding) / 1e6, 2) == 4.25
    more = parameters("ptb-char-layernorm", CHARACTERS) - parameters("ptb-char", CHARACTERS)
    assert more == 10 * 1000  # gains of both products, gain and bias of the cell


def test_the_transformer_of_char_is_of_its_size():
    sizes = [parameters(name, 66) for name in ("char", "char-transformer")]
    assert abs(sizes[1] / sizes[0] - 1) < 0.01


def test_the_rate_of_the_medium_model_falls_by_a_fifth_from_the_seventh_epoch_on():
    config = RECIPES["ptb-medium"][1]
    rate, epoch = config.make_optimiser().schedule, 1327
    for number in range(39):
        want = 1.2 ** -max(number - 5, 0)
        assert float(rate(jnp.int32(number * epoch))) == pytest.approx(want, rel=1e-5)
    assert config.steps == 39 * epoch
    assert (config.loss_factor, config.clip, config.sequence_length) == (35, 5, 35)


def test_every_recipe_has_a_folder_and_an_evaluation_an_epoch_or_more():
    for name, (_, config) in RECIPES.items():
        assert config.run_dir == Path("runs") / name
        assert config.steps >= config.eval_every > 0
        assert isinstance(config, Config)


# One of each kind: the others differ in numbers alone.
KINDS = (
    "ptb-medium",
    "pytorch-200",
    "cs287",
    "melis-10m",
    "awd-lstm",
    "mogrifier",
    "ptb-char-layernorm",
    "char-transformer",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_few_steps_of_a_recipe_at_a_small_size(tmp_path, name):
    text = tmp_path / "text.txt"
    text.write_text("not all who wander are lost , deep roots are not reached\n" * 90)
    config = PRESETS[name][1]
    small = {"hidden_size": 8, "embedding_size": 6, "last_size": config.last_size and 6}
    small |= {"batch_size": 4, "sequence_length": 8, "split": (0.9, 0.1, 0.0)}
    small |= {"mogrifier_rank": config.mogrifier_rank and 3, "steps": 40}
    small |= {"layers": min(config.layers, 2)}
    if config.cell == "mogrifierlstm":
        small |= {"mogrifier_rounds": 2}
    config = replace(config, data=text, warmup=0.0, sample_length=0, **small)
    trainer = config.make_trainer(make_problem(config))
    state = trainer.init(0)
    before = jax.tree.map(np.asarray, state.params)
    for step in range(3):
        state, told = trainer.step(state, trainer.batch(step))
        assert bool(told["finite"]) and float(told["loss"]) > 0
        state = trainer.after_evaluation(state, 1.0)
    assert trainer._step._cache_size() == 1
    after = jax.tree.map(np.asarray, state.params)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert all(jax.tree.leaves(moved))


def test_characters_of_penn_treebank_are_its_words_with_underscores(call, tmp_path):
    folder = tmp_path / "ptb"
    folder.mkdir()
    for name in ("train", "valid", "test"):
        (folder / f"ptb.{name}.txt").write_text(f" no it was n't {name} \n it <unk> N \n")
    code, _, error = call(ptb_char.main, folder, tmp_path / "to")
    assert code == 0, error
    written = (tmp_path / "to" / "valid.txt").read_text()
    assert written == "no_it_was_n't_valid\nit_<unk>_N\n"


@pytest.mark.skipif("JAXRNN_DATA" not in os.environ, reason="JAXRNN_DATA names no data")
def test_characters_of_penn_treebank_have_the_published_counts():
    splits = ptb_char.read_splits(Path("ptb"), (0.9, 0.05, 0.05), "word")
    texts = [ptb_char.as_characters(text).decode() for text in splits.values()]
    assert [len(text) for text in texts] == [5_017_482, 393_042, 442_423]
    assert len(set(texts[0])) == 50

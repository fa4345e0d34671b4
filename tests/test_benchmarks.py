"""The benchmarks of a CPU, run small."""

import math
import re

import jax
import jax.numpy as jnp
import pytest

import experiments.speed.compile
from experiments.speed import memory, step_peers
from experiments.speed.rivals import installed


def test_recomputing_takes_a_part_of_the_memory(call):
    small = ("--length", "512", "--hidden-size", "64", "--every", "16", "--rounds", "1")
    code, out, error = call(memory.main, *small, "--cell", "gru")
    assert (code, error) == (0, "")
    assert float(re.search(r"every 16 .* MiB, ([\d.]+) of", out)[1]) < 0.25
    assert re.search(r"every 16 +[\d,.]+ steps/s", out)


@pytest.mark.parametrize("library", ["jaxrnn", "flax.linen"])
def test_what_is_compiled_is_as_deep_as_asked(library, call):
    once = ("--once", library, "--hidden-size", "8", "--batch-size", "2")
    code, out, error = call(experiments.speed.compile.main, *once, "--length", "5")
    assert (code, error) == (0, "") and float(out) > 0
    options = experiments.speed.compile.Options(layers=3, hidden_size=8)
    outputs, params = experiments.speed.compile.deep(library, options)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 3 * (16 * 32 + 32)
    assert outputs(params, jnp.ones((5, 2, 8))).shape == (5, 2, 8)


@pytest.mark.parametrize("program", sorted({*step_peers.PROGRAMS} - {"products alone"}))
def test_every_program_learns_the_same_words(program):
    if not installed(program):
        pytest.skip(f"{program} not installed")
    step = step_peers.PROGRAMS[program](step_peers.config_of(8))
    with jax.numpy_dtype_promotion("standard"):
        first, second = float(step()), float(step())
    assert first == pytest.approx(math.log(step_peers.WORDS), abs=0.05)
    assert first != second == pytest.approx(first, abs=0.5)


def test_the_products_of_a_step_come_with_their_gradients():
    size = 8
    layers, embedded, output = step_peers.PROGRAMS["products alone"](
        step_peers.config_of(size)
    )()
    shapes = [leaf.shape for leaf in jax.tree.leaves(layers)]
    assert shapes == [(size, 4 * size)] * 4
    assert embedded.shape == (35, 20, size) and output.shape == (size, step_peers.WORDS)

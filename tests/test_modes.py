"""Modes of JAX that people set for their own code change nothing in ours.

Law 15: value and gradient, with masks and resets, are those without the mode. A mode that
acts while JAX traces shows in the program, and equal programs have equal numbers, so only
the modes that act while a program runs are run.
"""

import gc
import re
from contextlib import contextmanager

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from recurrences import RECURRENCES

from jaxrnn import (
    GRU,
    LSTM,
    MLSTM,
    RGLRU,
    SLSTM,
    GatedDeltaNet,
    MinLSTM,
    ResetBeforeGRU,
    length_mask,
    unroll,
)
from jaxrnn.models import (
    Additive,
    AttendAfter,
    AttendBefore,
    Classifier,
    LanguageModel,
    MaxPooling,
    Multiplicative,
    Sampling,
    Transformer,
    Translator,
    sample,
)
from jaxrnn.testing import steps
from jaxrnn.training.optimiser import (
    Optimiser,
    make_plateau,
    make_schedule,
    make_transform,
)
from jaxrnn.training.problem import Problem
from jaxrnn.training.trainer import Trainer

T, B = 3, 2
WIDE = re.compile(r"f64\[\d")  # but for constants, which are cast
MASK = np.array([[1, 1], [1, 1], [1, 0]], bool)
RESET = np.array([[0, 0], [0, 1], [1, 0]], bool)


@contextmanager
def promotion():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("standard"):
        yield


@contextmanager
def wide_and_watched():
    # Watching collects garbage after every trace: not what was there before, once more.
    gc.freeze()
    try:
        with jax.enable_x64(True), jax.checking_leaks():
            yield
    finally:
        gc.unfreeze()


def value_and_gradient(recurrence, params, noisy, xs):
    def loss(noisy):
        carry, ys = unroll(recurrence, noisy, xs, mask=MASK, reset=RESET)
        return jnp.sum(ys), (carry, ys)

    gradient, outputs = jax.grad(loss, has_aux=True, allow_int=True)(noisy)
    gradient = [g for g in jax.tree.leaves(gradient) if g.dtype != jax.dtypes.float0]
    carry = recurrence.initial_carry(params, (B,))
    stepped = recurrence.step(params, carry, xs[0]) if steps(recurrence) else None
    return gradient, outputs, stepped


def draw(recurrence, key):
    params = recurrence.init(key)
    xs = jax.random.normal(key, (T, B, *recurrence.input_shape), jnp.float32)
    return params, recurrence.with_noise(params, key, T, (B,)), xs


def inputs(recurrence):
    return jax.eval_shape(lambda key: draw(recurrence, key), jax.random.key(0))


def traced(recurrence):
    """The program, and the shapes and dtypes of what it gives."""
    run = jax.make_jaxpr(value_and_gradient, static_argnums=0, return_shape=True)
    program, given = run(recurrence, *inputs(recurrence))
    return str(program), jax.tree.map(str, given)


def programs(recurrence):
    drawn = jax.make_jaxpr(draw, static_argnums=0)
    return traced(recurrence)[0], str(drawn(recurrence, jax.random.key(0)))


def test_modes_of_promotion_change_no_program():
    for recurrence in RECURRENCES:
        want = programs(recurrence)
        with promotion():
            assert programs(recurrence) == want, recurrence


@pytest.mark.slow
def test_the_64_bit_mode_leaves_numbers_of_32_bits_as_they_are():
    for recurrence in RECURRENCES:
        _, want = traced(recurrence)
        with wide_and_watched():
            program, got = traced(recurrence)
        assert not WIDE.search(program), recurrence
        assert got == want, recurrence


# One of each strategy, and those with infinities, logarithms or roots inside.
WATCHED = [
    LSTM(3, 4),
    ResetBeforeGRU(3, 4),
    SLSTM(3, 4),
    MLSTM(3, 4),
    GatedDeltaNet(3, 4),
    MinLSTM(3, 4),
    RGLRU(4, 4),
]


@pytest.mark.slow
@pytest.mark.parametrize("cell", WATCHED, ids=repr)
def test_without_jit_and_with_an_eye_on_nan_the_numbers_are_the_same(cell):
    params, noisy, xs = jax.jit(draw, static_argnums=0)(cell, jax.random.key(0))
    padded = np.where(MASK[..., None], xs, np.nan)
    want = jax.jit(value_and_gradient, static_argnums=0)(cell, params, noisy, xs)
    with jax.debug_nans(True), jax.disable_jit():
        got = value_and_gradient(cell, params, noisy, padded)
    chex.assert_trees_all_close(got, want, atol=1e-5)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_of_another_kind_draw_parameters_and_noise(impl):
    for recurrence in RECURRENCES:
        key = jax.random.key(0, impl=impl)
        got = jax.eval_shape(lambda key, r=recurrence: draw(r, key), key)
        assert jax.tree.map(str, got) == jax.tree.map(str, inputs(recurrence))


RNGS = {"params": jax.random.key(0)}
SOURCE = jnp.ones((T, B), jnp.int32)


def translator(attending, attention):
    decoder = attending(LSTM(4 + 6 * (attending is AttendBefore), 6), attention)
    return Translator(7, 7, 4, LSTM(4, 6), decoder, readout_size=5, rngs=nnx.Rngs(**RNGS))


def loss_of(kind):
    """A model's graph, its parameters, and the sum of its outputs."""
    if kind == "language model":
        model = LanguageModel(7, 4, (LSTM(4, 5), GRU(5, 3)), rngs=nnx.Rngs(**RNGS))
        return model, lambda m, key: m(SOURCE, None, key=key)[1]
    if kind == "classifier":
        model = Classifier(
            7, 4, [GRU(4, 4)], 3, pooling=MaxPooling(), rngs=nnx.Rngs(**RNGS)
        )
        # Without a key, since Flax's dropout draws what the mode says.
        return model, lambda m, key: m(SOURCE, mask=MASK)
    if kind == "transformer":
        model = Transformer(
            7, 7, 4, layers=1, heads=2, feed_forward=4, rngs=nnx.Rngs(**RNGS)
        )
        return model, lambda m, key: m(SOURCE, MASK, SOURCE, key=key)
    attending, attention = kind
    model = translator(
        attending, attention(6, 6, 5) if attention is Additive else attention(6, 6)
    )
    return model, lambda m, key: m(SOURCE, MASK, SOURCE, key=key)


MODELS = [
    "language model",
    "classifier",
    "transformer",
    (AttendBefore, Additive),
    (AttendAfter, Multiplicative),
]


@pytest.mark.parametrize("kind", MODELS, ids=str)
def test_modes_of_tracing_change_no_model(kind):
    model, outputs = loss_of(kind)
    graph, state = nnx.split(model)

    def loss(state, key):
        return jnp.sum(outputs(nnx.merge(graph, state), key))

    def program():
        return str(jax.make_jaxpr(jax.grad(loss))(state, jax.random.key(0)))

    want = program()
    with promotion():
        assert program() == want
    with wide_and_watched():
        assert not WIDE.search(program())


def test_sampling_keeps_to_the_modes():
    model = LanguageModel(7, 4, (LSTM(4, 5),), rngs=nnx.Rngs(**RNGS))
    want = sample(model, SOURCE, 4, jax.random.key(0), Sampling(0.8, top_k=3))
    with jax.numpy_rank_promotion("raise"), jax.debug_nans(True):
        length_mask(jnp.array([[1, 2]]), 3)
        got = sample(model, SOURCE, 4, jax.random.key(0), Sampling(0.8, top_k=3))
    chex.assert_trees_all_equal(got, want)


class Product(Problem):
    """A parameter times the rows of a batch, which a carry adds up."""

    rows = 3

    def init(self, key):
        return jnp.ones(1), jnp.zeros(3)

    def loss(self, params, carry, batch, key):
        return jnp.mean(params * batch), carry + batch, {"most": jnp.max(batch)}

    def batch(self, step, rows):
        return np.ones(len(rows), np.float32)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "stairs", "plateau"])
@pytest.mark.parametrize("name", ["adamw", "rmsprop"])
def test_a_training_step_keeps_to_strict_promotion(name, schedule, accumulate):
    """Which the tests have set, and Optax does not keep to by itself."""
    rate = make_schedule(schedule, 0.1, 10, 2, 4, 2, 0.5)
    plateau = make_plateau(0.5, 2) if schedule == "plateau" else None
    optimiser = Optimiser(make_transform(name, rate, 0.01, 1.0), rate, plateau)
    trainer = Trainer(Product(), *optimiser, average=0.9, accumulate=accumulate)
    state = trainer.after_evaluation(trainer.init(0), 1.0)
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(trainer.step, state, trainer.batch(0))

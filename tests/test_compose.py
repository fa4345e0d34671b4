"""Connections, learned starts and slower cells against what their docstrings say."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recurrences import RECURRENCES

from jaxrnn import (
    GRU,
    LSTM,
    Elman,
    FeedForward,
    Highway,
    LearnedStart,
    NormParams,
    OutputDropout,
    PreNorm,
    ResetBeforeGRU,
    Residual,
    Skip,
    Slower,
    Stack,
    unroll,
)

T, B, D = 6, 3, 4

MASK = np.array([[1, 1, 1, 1, 0, 0], [0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]], bool).T
RESET = np.array([[0, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0]], bool).T


def inputs():
    return jax.random.normal(jax.random.key(1), (T, B, D))


def test_residual_adds_the_input():
    cell = Residual(GRU(D, D))
    params = cell.init(jax.random.key(0))
    _, inner = unroll(cell.cell, params[0], inputs())
    np.testing.assert_array_equal(unroll(cell, params, inputs())[1], inputs() + inner)


def test_highway_gates_between_input_and_cell():
    cell = Highway(GRU(D, D))
    params = cell.init(jax.random.key(0))
    xs = np.asarray(inputs())
    _, inner = unroll(cell.cell, params[0], xs)
    t = 1 / (1 + np.exp(-(xs @ params[1].w + params[1].b)))
    np.testing.assert_allclose(
        unroll(cell, params, xs)[1], t * inner + (1 - t) * xs, atol=1e-6
    )


def test_highway_lets_the_input_through_at_first():
    cell = Highway(GRU(D, D), bias=-20.0)
    _, ys = unroll(cell, cell.init(jax.random.key(0)), inputs())
    np.testing.assert_allclose(ys, inputs(), atol=1e-6)


def norm(z, gain, b):
    centred = z - z.mean(-1, keepdims=True)
    return gain * centred / np.sqrt(z.var(-1, keepdims=True) + 1e-5) + b


def test_pre_norm_adds_what_the_cell_makes_of_the_normalised_input():
    cell = PreNorm(GRU(D, D))
    inner, _ = cell.init(jax.random.key(0))
    own = NormParams(gain=jnp.linspace(0.5, 2, D), b=jnp.linspace(0, 1, D))
    xs = np.asarray(inputs())
    _, ys = unroll(cell.cell, inner, norm(xs, *own))
    np.testing.assert_allclose(unroll(cell, (inner, own), xs)[1], xs + ys, atol=1e-5)


def test_feed_forward_adds_two_dense_layers_of_the_normalised_output():
    cell = FeedForward(GRU(D, 3), 7)
    inner, own = cell.init(jax.random.key(0))
    assert own.w_up.shape == (3, 7)
    own = jax.tree.map(lambda a: a + 0.1, own)
    z = np.asarray(unroll(cell.cell, inner, inputs())[1])
    within = jax.nn.gelu(norm(z, *own.norm) @ own.w_up + own.b_up)
    want = z + within @ own.w_down + own.b_down
    np.testing.assert_allclose(unroll(cell, (inner, own), inputs())[1], want, atol=1e-5)
    narrow = FeedForward(GRU(D, 3), 7, products="bfloat16")
    got = unroll(narrow, (inner, own), inputs())[1]
    assert got.dtype == jnp.float32 and 0 < np.abs(got - want).max() < 0.05


@pytest.mark.parametrize("shared, distinct", [(False, T), (True, 1)])
def test_output_dropout_drops_outputs_and_leaves_the_carry(shared, distinct):
    cell = OutputDropout(GRU(D, 40), 0.25, shared)
    params = cell.init(jax.random.key(0))
    carry, ys = unroll(cell, params, inputs())
    noisy = cell.with_noise(params, jax.random.key(2), T, (B,))
    after, dropped = unroll(cell, noisy, inputs())
    np.testing.assert_array_equal(after[0].h, carry[0].h)
    kept = np.asarray(dropped != 0)
    np.testing.assert_allclose(dropped, np.where(kept, ys / 0.75, 0), rtol=1e-6)
    assert len({kept[t].tobytes() for t in range(T)}) == distinct
    assert len({kept[:, b].tobytes() for b in range(B)}) == B
    assert 0.1 < (~kept).mean() < 0.4
    with pytest.raises(ValueError, match="was drawn for other xs: its mask is"):
        unroll(cell, noisy, inputs()[:, :1])


def test_a_deep_stack_learns_where_pre_norm_lets_the_gradient_through():
    """The first layer's share of the gradient: of 12 plain LSTMs next to nothing."""

    def lowest(around):
        stack = Stack([around(LSTM(D, D)) for _ in range(12)])
        params = stack.init(jax.random.key(0))
        loss = jax.grad(lambda p: jnp.sum(unroll(stack, p, inputs())[1] ** 2))
        norms = [optax.tree.norm(gradient) for gradient in loss(params)]
        return float(norms[0] / norms[-1])

    assert lowest(lambda cell: cell) < 1e-4 and lowest(PreNorm) > 0.1


def test_a_stack_of_skips_gives_the_input_and_all_layers():
    stack = Stack((Skip(Elman(D, 3)), Skip(GRU(D + 3, 2))))
    params = stack.init(jax.random.key(0))
    xs = inputs()
    _, ys = unroll(stack, params, xs)
    assert ys.shape == (T, B, stack.output_size) == (T, B, D + 3 + 2)
    _, first = unroll(Elman(D, 3), params[0][0], xs)
    _, second = unroll(GRU(D + 3, 2), params[1][0], jnp.concatenate([xs, first], -1))
    np.testing.assert_array_equal(ys, np.concatenate([xs, first, second], -1))


@pytest.mark.parametrize("connection", [Residual, Highway, PreNorm])
def test_a_connection_of_unequal_sizes_is_refused(connection):
    with pytest.raises(ValueError, match="equal input and output sizes, got 4 and 3"):
        connection(GRU(4, 3))


def test_a_learned_start_begins_as_the_cells_own():
    cell = LearnedStart(LSTM(D, 3))
    params = cell.init(jax.random.key(0))
    want = cell.cell.initial_carry(params.cell, (B,))
    for a, b in zip(cell.initial_carry(params, (B,)), want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("strategy", ["scan", "fused"])
def test_a_learned_start_leaves_alone_what_counts_steps(strategy):
    cell = LearnedStart(Slower(LSTM(D, 3), 2))
    params = cell.init(jax.random.key(0))
    assert params.start.age is None

    def loss(params):
        return jnp.sum(unroll(cell, params, inputs(), strategy=strategy)[1] ** 2)

    slopes = jax.jit(jax.grad(loss))(params)
    assert np.all(np.asarray(slopes.start.cell.h) != 0)
    carry = cell.initial_carry(params, (B,))
    np.testing.assert_array_equal(carry.age, np.zeros(B, np.int32))


@pytest.mark.parametrize("strategy", ["scan", "fused"])
def test_gradients_reach_a_learned_start_from_every_sequence(strategy):
    cell = LearnedStart(LSTM(D, 3))
    params = cell.init(jax.random.key(0))
    params = params._replace(start=jax.tree.map(lambda a: a + 0.5, params.start))
    xs = inputs()[:, 0]

    def by_reset(start):
        _, ys = unroll(
            cell,
            params._replace(start=start),
            xs,
            reset=jnp.arange(T) == 2,
            strategy=strategy,
        )
        return jnp.sum(ys**2), ys

    def by_hand(start):
        inner, parts = cell.cell, (xs[:2], xs[2:])
        ys = [unroll(inner, params.cell, x, start, strategy="scan")[1] for x in parts]
        return jnp.sum(jnp.concatenate(ys) ** 2), jnp.concatenate(ys)

    got, ys = jax.jit(jax.grad(by_reset, has_aux=True))(params.start)
    want, ys_by_hand = jax.jit(jax.grad(by_hand, has_aux=True))(params.start)
    np.testing.assert_allclose(ys, ys_by_hand, atol=1e-6)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        assert np.abs(a).min() > 0


@pytest.mark.parametrize("inner", [GRU(D, 3), ResetBeforeGRU(D, 3)], ids=repr)
def test_a_slower_cell_moves_at_every_third_step_of_a_sequence(inner):
    cell = Slower(inner, every=3)
    params = cell.init(jax.random.key(0))
    xs, step = inputs(), jax.jit(inner.step)
    _, ys = unroll(cell, params, xs, mask=MASK, reset=RESET)
    for row in range(B):
        carry, y, age = inner.initial_carry(params.cell), np.zeros(3), 0
        for t in range(T):
            if RESET[t, row]:
                carry, y, age = inner.initial_carry(params.cell), np.zeros(3), 0
            if MASK[t, row]:
                if age % 3 == 0:
                    carry, y = step(params.cell, carry, xs[t, row])
                age += 1
            want = y if MASK[t, row] else np.zeros(3)
            np.testing.assert_allclose(ys[t, row], want, atol=1e-6)


def test_a_slower_cell_of_every_step_is_the_cell():
    cell = Slower(LSTM(D, 3), every=1)
    params = cell.init(jax.random.key(0))
    _, want = unroll(cell.cell, params.cell, inputs())
    np.testing.assert_allclose(unroll(cell, params, inputs())[1], want, atol=1e-6)


def test_a_slower_cell_has_the_same_gradients_in_all_strategies():
    cell = Slower(LSTM(D, 3), every=2)
    params = cell.init(jax.random.key(0))

    def loss(params, xs, strategy):
        carry, ys = unroll(cell, params, xs, mask=MASK, reset=RESET, strategy=strategy)
        return jnp.sum(ys**2) + jnp.sum(carry.cell.c)

    want, got = (
        jax.tree.leaves(
            jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)(params, inputs(), strategy)
        )
        for strategy in ("scan", "fused")
    )
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)


def test_a_slower_cell_needs_a_pace():
    with pytest.raises(ValueError, match="every of 1 or more, got 0"):
        Slower(GRU(D, 3), every=0)


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=repr)
def test_every_recurrence_is_plain_constants(recurrence):
    fields = dataclasses.asdict(recurrence)
    assert json.loads(json.dumps(fields)) == _as_lists(fields)


def _as_lists(tree):
    if isinstance(tree, dict):
        return {name: _as_lists(value) for name, value in tree.items()}
    return [_as_lists(value) for value in tree] if isinstance(tree, tuple) else tree

"""The delta rule: what its blocks of time keep to, and what its eigenvalues can do."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import DeltaNet, DeltaNetCarry, GatedDeltaNet, Precision, unroll
from jaxrnn.strategies import Chunkwise

T, B = 23, 3
CELLS = [
    DeltaNet(3, 4, heads=2),
    DeltaNet(3, 4, householders=2, beta_max=2.0),
    GatedDeltaNet(3, 4, heads=2, householders=3, beta_max=2.0),
]

every_cell = pytest.mark.parametrize("cell", CELLS, ids=repr)


# Most of the time is compilation.
quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def random(*shape):
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape), jnp.float32)


def gradients(strategy, cell, params, carry, start, xs, reverse=False):
    """(carry, ys), and gradients by params, carry, start and xs, with masks and resets."""
    flags = np.random.default_rng(5).random((2, T, B))

    def loss(*arrays):
        params, carry, start, xs = arrays
        last, ys = unroll(
            cell,
            params,
            xs,
            carry,
            start=start,
            mask=flags[0] < 0.8,
            reset=flags[1] < 0.1,
            reverse=reverse,
            strategy=strategy,
        )
        weights = jnp.cos(jnp.arange(4, dtype=ys.dtype))
        return jnp.sum(ys * weights) + jnp.sum(last.s**2), (last, ys)

    run = quick(jax.grad(loss, (0, 1, 2, 3), has_aux=True))
    return run(params, carry, start, xs)


def memories(cell):
    size = cell.hidden_size // cell.heads
    draws = random(2, B, cell.heads, size, size)
    return DeltaNetCarry(draws[0]), DeltaNetCarry(draws[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell, reverse", list(zip(CELLS, (False, True, False), strict=True))
)
def test_blocks_of_any_length_are_the_loop_in_value_and_gradient(cell, reverse):
    arguments = (cell.init(jax.random.key(0)), *memories(cell), random(T, B, 3))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: a.astype(jnp.float64), arguments)
        run = partial(gradients, reverse=reverse)
        want = run("scan", cell, *wide)
        for length in (5, 16):  # neither divides T
            close(run(Chunkwise(length), cell, *wide), want, 1e-11)
    # The gradient of a gate is a small sum of large terms, which a block must not round.
    close(run(Chunkwise(16), cell, *arguments), want, 1e-4)


def close(got, want, tolerance):
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.slow
@every_cell
@pytest.mark.parametrize("strategy", ["scan", Chunkwise(5)])
def test_a_nan_in_a_carry_that_a_reset_replaces_reaches_no_gradient(cell, strategy):
    params, xs = cell.init(jax.random.key(0)), random(T, B, 3)
    carry = DeltaNetCarry(memories(cell)[0].s.at[1].set(jnp.nan))
    begins = np.zeros((T, B), bool)
    begins[0, 1] = True

    def loss(params, xs):
        _, ys = unroll(cell, params, xs, carry, reset=begins, strategy=strategy)
        return jnp.sum(ys**2), ys

    slopes, ys = quick(jax.grad(loss, (0, 1), has_aux=True))(params, xs)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((ys, slopes)))


def turned(beta_max, bits, **options):
    """What one unit reads of a memory of 1 that each set bit is to turn about."""
    cell, sure = DeltaNet(2, 1, beta_max=beta_max), 300.0  # a sigmoid of -300 is 0
    params = cell.init(jax.random.key(0))._replace(
        w_x=jnp.array([[sure, sure, 0.0], [sure, sure, 0.0]]),  # q and k are 1, v is 0
        w_beta=jnp.array([[-sure], [sure]]),
    )
    memory = DeltaNetCarry(jnp.ones((1, 1, 1)))
    return unroll(cell, params, jax.nn.one_hot(bits, 2), memory, **options)[1][:, 0]


@pytest.mark.parametrize("strategy", ["scan", "chunkwise"])
def test_an_eigenvalue_of_minus_one_counts_parity_and_one_of_zero_forgets_it(strategy):
    bits = np.random.default_rng(0).integers(0, 2, 500)
    counted = turned(2.0, bits, strategy=strategy)
    np.testing.assert_array_equal(np.sign(counted), (-1.0) ** np.cumsum(bits))
    np.testing.assert_allclose(np.abs(counted), 1, atol=1e-3)
    forgotten = turned(1.0, bits, strategy=strategy)
    np.testing.assert_allclose(forgotten, np.cumsum(bits) == 0, atol=1e-6)


@pytest.mark.parametrize("beta_max, turns", [(1.0, False), (2.0, True)])
def test_only_with_negative_eigenvalues_a_steady_input_turns_an_output_about(
    beta_max, turns
):
    """Parity of a row of ones goes up and down: no weights do that with beta <= 1."""
    cell = DeltaNet(3, 4, beta_max=beta_max)

    def outputs(key):
        params = cell.init(key)
        params = params._replace(b_beta=params.b_beta + 3 * jax.random.normal(key, (1,)))
        return unroll(cell, params, jnp.ones((8, 3)), strategy="scan")[1]

    moves = np.diff(
        jax.jit(jax.vmap(outputs))(jax.random.split(jax.random.key(1), 200)), axis=1
    )
    products = moves[:, 1:] * moves[:, :-1]
    assert (products.min() < -1e-2) if turns else (products.min() > -1e-6)


def test_two_reflections_a_step_are_a_turn_by_twice_the_angle_between_them():
    """Turns by a third of a circle come back every third step, as no reflection does."""
    cell = DeltaNet(1, 2, householders=2, beta_max=2.0)
    params = cell.init(jax.random.key(0))._replace(
        # q and k_1 east, k_2 at 60 degrees from there, v_1 and v_2 zero; beta 2
        w_x=300.0 * jnp.array([[1, 0, 1, 0, 0.5, 3**0.5 / 2, 0, 0, 0, 0]]),
        b_beta=jnp.array([300.0, 300.0]),
    )
    memory = DeltaNetCarry(jnp.eye(2)[None])
    _, ys = unroll(cell, params, jnp.ones((30, 1)), memory)
    angle = 2 * np.pi / 3 * np.arange(1, 31)
    # The keys are of length 1 to within 1e-7, and every step takes that along.
    np.testing.assert_allclose(ys[:, 0], np.cos(angle), atol=3e-5)
    np.testing.assert_allclose(np.abs(ys[:, 1]), np.abs(np.sin(angle)), atol=3e-5)


def test_a_gate_that_forgets_nothing_leaves_a_deltanet():
    cell, gated = (
        kind(3, 4, heads=2, householders=2) for kind in (DeltaNet, GatedDeltaNet)
    )
    params = gated.init(jax.random.key(0))
    xs = random(T, B, 3)
    want = unroll(
        cell,
        cell.init(jax.random.key(0))._replace(
            **{name: getattr(params, name) for name in ("w_x", "w_beta", "b_beta")}
        ),
        xs,
    )
    got = unroll(gated, params._replace(b_a=jnp.full(2, -200.0)), xs)
    np.testing.assert_allclose(got[1], want[1], atol=1e-6)


def test_a_memory_that_is_wiped_out_within_a_block_leaves_the_next_ones_exact():
    cell = GatedDeltaNet(3, 4, heads=2)
    params = cell.init(jax.random.key(0))
    params = params._replace(w_a=params.w_a.at[0].set(1e30), b_a=params.b_a + 1)
    wiped = np.arange(T) % 5 == 0
    xs = random(T, B, 3).at[..., 0].set(np.where(wiped, 1.0, 0.0)[:, None])
    want = gradients("scan", cell, params, *memories(cell), xs)
    got = gradients(Chunkwise(16), cell, params, *memories(cell), xs)
    close(got, want, 1e-4)


def test_a_gated_deltanet_starts_with_the_decays_of_mamba_2():
    params = GatedDeltaNet(1, 4000, heads=4000).init(jax.random.key(0))
    step, rate = np.log1p(np.exp(params.b_a)), np.exp(params.log_rate)
    assert 0.000999 < step.min() < 0.00101 and 0.099 < step.max() < 0.1001
    assert abs(np.mean(np.log(step)) - np.log(0.01)) < 0.1
    assert 0.99 < rate.min() < 1.1 and 15.9 < rate.max() < 16.01


@pytest.mark.parametrize("strategy", ["scan", "chunkwise"])
@every_cell
def test_bfloat16_products_alone_are_narrow(cell, strategy):
    params, xs = cell.init(jax.random.key(0)), random(T, B, 3)
    narrow = Precision(cell, "bfloat16")
    (last, ys), (want_last, want) = (
        quick(partial(unroll, each, strategy=strategy))(params, xs)
        for each in (narrow, cell)
    )
    assert last.s.dtype == ys.dtype == jnp.float32
    np.testing.assert_allclose(ys, want, atol=0.05)
    np.testing.assert_allclose(last.s, want_last.s, atol=0.05)
    assert np.abs(ys - want).max() > 1e-5


@pytest.mark.slow
def test_two_solutions_at_once_do_not_wait_for_each_other():
    """As those of LAPACK's triangular systems do in JAX 0.10 to 0.12 on two cores."""
    cell, other = DeltaNet(8, 64), DeltaNet(8, 64, beta_max=2.0)
    params, xs = cell.init(jax.random.key(0)), random(64, 64, 8)

    @jax.jit
    def both(xs):
        return [
            unroll(each, params, xs, strategy=Chunkwise(64))[1] for each in (cell, other)
        ]

    for _ in range(20):
        jax.block_until_ready(both(xs))

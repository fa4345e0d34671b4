"""Parameters, products and carry in dtypes of their own."""

import dataclasses
import json
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import (
    GRU,
    LRU,
    LSTM,
    MLSTM,
    LayerNormLSTM,
    MinGRU,
    Precision,
    ResetBeforeGRU,
    Stack,
    VariationalDropout,
    Zoneout,
    explain,
    unroll,
)

T, B, D, H = 6, 3, 4, 5


def inputs(dtype=jnp.float32):
    return jax.random.normal(jax.random.key(1), (T, B, D)).astype(dtype)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def dtypes(function, *arguments):
    """The dtypes that go into products, and those that go into tanh."""
    found = {"dot_general": set(), "tanh": set()}
    for equation in equations(jax.make_jaxpr(function)(*arguments).jaxpr):
        if equation.primitive.name in found:
            found[equation.primitive.name] |= {v.aval.dtype.name for v in equation.invars}
    return found["dot_general"], found["tanh"]


def loss(cell, params, xs, strategy="auto"):
    _, ys = unroll(cell, params, xs, strategy=strategy)
    return jnp.sum(ys.astype(jnp.float32) ** 2)


@pytest.mark.parametrize("strategy", ["scan", "fused"])
def test_products_and_gates_have_their_own_dtypes_in_both_passes(strategy):
    cell = Precision(LSTM(D, H), "bfloat16")
    params = cell.init(jax.random.key(0))
    products, gates = dtypes(
        jax.grad(lambda p, xs: loss(cell, p, xs, strategy), argnums=(0, 1)),
        params,
        inputs(),
    )
    assert products == {"bfloat16"}
    assert gates == {"float32"}


@pytest.mark.parametrize(
    "products, carry, parameters",
    [
        ("bfloat16", None, "float32"),
        (None, "float32", "bfloat16"),
        ("float16", "float32", "bfloat16"),
        (None, None, "bfloat16"),
        (None, "bfloat16", "float32"),
        ("float32", None, "bfloat16"),
        ("bfloat16", "float16", "float32"),
    ],
)
def test_parameters_products_and_carry_each_have_a_dtype(products, carry, parameters):
    cell = Precision(LSTM(D, H), products, carry)
    params = cell.init(jax.random.key(0), parameters)
    assert {leaf.dtype.name for leaf in params} == {parameters}
    kept = carry or parameters
    # Only a dtype that was asked for is narrow inside the loop.
    inside = carry or "float32"

    def run(params, xs):
        return unroll(cell, params, xs)

    assert dtypes(run, params, inputs()) == ({products or parameters}, {inside})
    last, ys = jax.eval_shape(run, params, inputs())
    assert {leaf.dtype.name for leaf in (*last, ys)} == {kept}
    gradients = jax.eval_shape(jax.grad(lambda p: loss(cell, p, inputs())), params)
    assert {leaf.dtype.name for leaf in gradients} == {parameters}


def test_bfloat16_products_round_what_they_take_and_give():
    cell = Precision(LSTM(D, H), jnp.bfloat16)
    params = cell.init(jax.random.key(0))
    _, ys = unroll(cell, params, inputs())

    def rounded(x):
        return np.asarray(x, np.float32).astype(jnp.bfloat16).astype(np.float32)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    w_x, w_h, b = map(rounded, params)
    h, c, want = np.zeros((B, H), np.float32), np.zeros((B, H), np.float32), []
    for x in rounded(inputs()):
        r = rounded(rounded(rounded(h) @ w_h) + b)
        i, f, g, o = np.split(rounded(x @ w_x) + r, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        want.append(h)
    # Sums in another order may round to the neighbouring bfloat16, 1/256 away.
    np.testing.assert_allclose(ys, want, atol=4e-3)
    _, exact = unroll(LSTM(D, H), params, inputs())
    assert 1e-5 < np.abs(ys - exact).max() < 2e-2


@pytest.mark.parametrize("inner", [LSTM(D, H), LayerNormLSTM(D, H)], ids=repr)
def test_gradients_of_bfloat16_products_are_near_those_of_float32(inner):
    cell = Precision(inner, "bfloat16")
    params = cell.init(jax.random.key(0))
    gradient = jax.jit(jax.grad(loss, argnums=1), static_argnums=(0, 3))
    exact = gradient(inner, params, inputs(), "scan")
    near = gradient(cell, params, inputs(), "fused")
    for a, b in zip(exact, near, strict=True):
        assert b.dtype == jnp.float32
        assert np.linalg.norm(a - b) < 0.03 * np.linalg.norm(a)


def test_precision_of_nothing_is_the_cell():
    cell = Precision(GRU(D, H))
    params = cell.init(jax.random.key(0))
    _, want = unroll(cell.cell, params, inputs())
    np.testing.assert_array_equal(unroll(cell, params, inputs())[1], want)


def test_a_carry_counts_in_any_dtype_unless_a_narrow_one_was_asked_for():
    inner, steps = LSTM(1, 1), 800
    params = inner.init(jax.random.key(0), jnp.bfloat16)
    # i = 1/2, f = 1, g = 1/200: c grows by 1/400 a step, which is below half a unit of
    # bfloat16 as soon as c is 1.
    params = params._replace(
        w_x=jnp.zeros_like(params.w_x),
        w_h=jnp.zeros_like(params.w_h),
        b=jnp.array([0, 100, 0.005, 0], jnp.bfloat16),
    )
    xs = jnp.zeros((steps, 1), jnp.bfloat16)
    for cell in (inner, Precision(inner), Precision(inner, carry="float32")):
        counts, _ = unroll(cell, params, xs)
        assert abs(counts.c[0] - steps / 400) < 0.02
    stands, _ = unroll(Precision(inner, carry="bfloat16"), params, xs)
    assert stands.c[0] == 1


def test_precision_composes_with_noise_and_stacks():
    stack = Stack(
        (
            Precision(Zoneout(LSTM(D, H), 0.3), "bfloat16"),
            Zoneout(Precision(VariationalDropout(GRU(H, H), 0.3), "bfloat16"), 0.3),
        )
    )
    plain = Stack(
        (Zoneout(LSTM(D, H), 0.3), Zoneout(VariationalDropout(GRU(H, H), 0.3), 0.3))
    )
    params, key = stack.init(jax.random.key(0)), jax.random.key(2)
    assert jax.tree.structure(params) == jax.tree.structure(plain.init(key))
    assert explain(stack).count("fused, because") == 2
    products, _ = dtypes(lambda p, xs: unroll(stack, p, xs), params, inputs())
    assert products == {"bfloat16"}
    _, ys = unroll(stack, stack.with_noise(params, key, T, (B,)), inputs())
    _, want = unroll(plain, plain.with_noise(params, key, T, (B,)), inputs())
    assert 1e-5 < np.abs(ys - want).max() < 2e-2


@pytest.mark.parametrize("inner", [LSTM(D, H), GRU(D, H)], ids=repr)
def test_a_carry_narrower_than_the_products_is_a_loop_of_steps(inner):
    cell = Precision(inner, carry="bfloat16")
    params = cell.init(jax.random.key(0))
    carry, want = cell.initial_carry(params, (B,)), []
    for x in inputs():
        carry, y = cell.step(params, carry, x)
        want.append(y)
    for strategy in ("scan", "fused"):
        _, ys = unroll(cell, params, inputs(), strategy=strategy)
        np.testing.assert_allclose(*(np.float32(a) for a in (ys, want)), atol=1e-2)


@pytest.mark.parametrize(
    "cell", [LSTM(D, H), MinGRU(D, H), Zoneout(ResetBeforeGRU(D, H), 0.1)], ids=repr
)
def test_inputs_wider_than_the_carry_are_refused(cell):
    params = cell.init(jax.random.key(0), jnp.bfloat16)
    for promotion in ("strict", "standard"):
        with jax.numpy_dtype_promotion(promotion):
            with pytest.raises(ValueError, match="xs of float32 are too wide"):
                unroll(cell, params, inputs())


def test_inputs_of_any_precision_suit_a_cell_with_its_own():
    cell = Precision(LSTM(D, H), "bfloat16")
    params = cell.init(jax.random.key(0))
    wide, narrow = (
        unroll(cell, params, inputs().astype(dtype))[1]
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    np.testing.assert_array_equal(wide, narrow)


def test_a_precision_is_named_by_strings():
    cell = Precision(LSTM(D, H), jnp.bfloat16, np.dtype("float32"))
    assert cell == Precision(LSTM(D, H), "bfloat16", "float32")
    assert json.loads(json.dumps(dataclasses.asdict(cell)))["products"] == "bfloat16"


@pytest.mark.parametrize("dtype", ["int8", "bfloat", "complex64"])
def test_a_dtype_that_is_not_floating_is_refused(dtype):
    with pytest.raises(ValueError, match=f"floating dtype for products, got '{dtype}'"):
        Precision(LSTM(D, H), dtype)


@pytest.mark.parametrize(
    "products, carry, parameters",
    [
        ("bfloat16", None, "float32"),
        (None, "float32", "bfloat16"),
        (None, "float64", "float32"),
    ],
)
@pytest.mark.parametrize("inner", [MinGRU(D, 4), LRU(D, 4, state_size=3)], ids=repr)
def test_a_linear_cell_stays_linear(inner, products, carry, parameters):
    with jax.enable_x64(True):
        cell = Precision(inner, products, carry)
        params = cell.init(jax.random.key(0), parameters)
        last, ys = unroll(cell, params, inputs(), strategy="scan")
        in_parallel = unroll(cell, params, inputs(), strategy="associative")
        dtype = jnp.dtype(carry or parameters)
        assert {leaf.dtype for leaf in jax.tree.leaves((last, ys))} == {dtype}
        chex.assert_trees_all_close(in_parallel, (last, ys), atol=1e-5)
        want = unroll(inner, params, inputs(parameters))[1]
        chex.assert_trees_all_close(ys.astype(float), want.astype(float), atol=0.05)


@pytest.mark.parametrize("inner", [ResetBeforeGRU(D, H), MLSTM(D, 4, heads=2)], ids=repr)
def test_a_cell_whose_products_are_not_apart_projects_narrowly(inner):
    cell = Precision(inner, "bfloat16")
    params = cell.init(jax.random.key(0))
    assert explain(cell) == explain(inner).replace(type(inner).__name__, "Precision", 1)
    for strategy in ("auto", "scan"):
        (last, ys), (want_last, want) = (
            unroll(each, params, inputs(), strategy=strategy) for each in (cell, inner)
        )
        assert {leaf.dtype for leaf in jax.tree.leaves((last, ys))} == {
            jnp.dtype("float32")
        }
        chex.assert_trees_all_close((last, ys), (want_last, want), atol=0.05)
        assert np.abs(ys - want).max() > 1e-5


@pytest.mark.parametrize("strategy", ["scan", "fused"])
def test_gradients_add_up_in_float32_over_many_rows(strategy):
    # Over 4,096 rows a sum in bfloat16 is off by a hundredth and more.
    inner = LSTM(D, H)
    params = inner.init(jax.random.key(0))
    xs, weight = jax.random.normal(jax.random.key(1), (2, 64, 64, D))

    @partial(jax.jit, static_argnums=0)
    def gradient(cell, params):
        return jax.grad(
            lambda p: jnp.mean(unroll(cell, p, xs, strategy=strategy)[1][..., :D] * weight)
        )(params)

    exact = gradient(inner, params)
    near = gradient(Precision(inner, "bfloat16"), params)
    for a, b in zip(exact, near, strict=True):
        assert np.linalg.norm(a - b) < 0.01 * np.linalg.norm(a)

"""Weights from and to Flax Linen: the same function and gradients, exact round trips."""

import jax
import jax.numpy as jnp
import pytest
from convert_parity import (
    B,
    assert_close,
    assert_equal,
    assert_same_function,
    random_params,
)

from jaxrnn import GRU, LSTM, Bidirectional, Elman, MinimalGRU, ResetBeforeGRU
from jaxrnn.convert import from_linen, to_linen

linen = pytest.importorskip("flax.linen")
traverse_util = pytest.importorskip("flax.traverse_util")

CELLS = {
    "lstm": linen.LSTMCell,
    "optimized_lstm": linen.OptimizedLSTMCell,
    "gru": linen.GRUCell,
    "simple": linen.SimpleCell,
}


def build(name, precision):
    """A Linen cell, and random params for it."""
    d, h = precision.sizes
    cell = CELLS[name](h, param_dtype=precision.dtype)
    x = jnp.zeros((B, d), precision.dtype)
    carry = cell.initialize_carry(jax.random.key(0), x.shape)
    shapes = jax.eval_shape(cell.init, jax.random.key(0), carry, x)["params"]
    return cell, carry, precision.like(shapes)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_and_its_recurrence_are_the_same_function(name, precision):
    cell, start, weights = build(name, precision)

    def peer(weights, xs):
        def step(carry, x):
            return cell.apply({"params": weights}, carry, x)

        return jax.lax.scan(step, start, xs)

    ours, theirs = assert_same_function(
        from_linen, peer, weights, precision, precision.sizes[0]
    )
    # Linen carries (c, h), we (h, c).
    theirs = theirs[::-1] if "lstm" in name else (theirs,)
    assert_close(tuple(ours), theirs, precision.tolerance)
    assert_equal(to_linen(*from_linen(weights)), weights)


@pytest.mark.parametrize(
    "recurrence", [LSTM(3, 4), GRU(3, 4), Elman(3, 4), Elman(3, 4, "relu")], ids=str
)
def test_params_come_back_bit_for_bit(recurrence, precision):
    params = random_params(recurrence, precision)
    activation = getattr(recurrence, "activation", "tanh")
    again, params_again = from_linen(to_linen(recurrence, params), activation=activation)
    assert again == recurrence
    assert_equal(params_again, params)


def test_the_lstms_bias_is_on_the_hidden_side():
    tree = to_linen(LSTM(3, 4), LSTM(3, 4).init(jax.random.key(0)))
    assert set(tree["hf"]) == {"kernel", "bias"} and set(tree["if"]) == {"kernel"}
    assert_equal(tree["hf"]["bias"], jnp.ones(4))


def test_the_grus_inner_bias_is_on_the_hidden_side():
    cell = GRU(3, 4)
    params = cell.init(jax.random.key(0))._replace(b_n=jnp.arange(4.0))
    tree = to_linen(cell, params)
    assert_equal(tree["hn"]["bias"], jnp.arange(4.0))
    assert set(tree["hr"]) == set(tree["hz"]) == {"kernel"}


def test_the_minimal_gated_units_are_different_functions():
    cell, carry, x = linen.MGUCell(4), jnp.zeros(4), jnp.zeros(3)
    weights = cell.init(jax.random.key(0), carry, x)["params"]
    with pytest.raises(ValueError, match="MGUCell cannot be converted.*another function"):
        from_linen(weights)
    ours = MinimalGRU(3, 4)
    with pytest.raises(ValueError, match="resets after the product and keeps h"):
        to_linen(ours, ours.init(jax.random.key(0)))


@pytest.mark.parametrize(
    "recurrence, reason",
    [
        (ResetBeforeGRU(3, 4), "resets after the product"),
        (Bidirectional(LSTM(3, 4), LSTM(3, 4)), "what converts is LSTM, GRU, Elman"),
    ],
    ids=str,
)
def test_what_linen_cannot_hold_is_refused(recurrence, reason):
    with pytest.raises(ValueError, match=f"Linen cannot hold.*{reason}"):
        to_linen(recurrence, recurrence.init(jax.random.key(0)))


def test_params_of_something_else_are_refused():
    with pytest.raises(ValueError, match=r"LSTMCell, GRUCell or SimpleCell: \['kernel'\]"):
        from_linen({"kernel": jnp.ones((3, 4))})


def fresh(kind=linen.OptimizedLSTMCell):
    cell, x = kind(4), jnp.zeros(3)
    carry = cell.initialize_carry(jax.random.key(0), x.shape)
    return cell.init(jax.random.key(0), carry, x)["params"]


def changed(path, change):
    flat = traverse_util.flatten_dict(fresh(), sep="/")
    return traverse_util.unflatten_dict(flat | {path: change(flat.get(path))}, sep="/")


@pytest.mark.parametrize(
    "params, reason",
    [
        (
            lambda: jax.tree.map(lambda w: jnp.stack([w, w]), fresh()),
            r"ii/kernel must be a matrix, got shape \[2, 3, 4\]; .* one by one",
        ),
        (
            lambda: changed("hf/kernel", lambda w: w[:3]),
            r"hf/kernel must be \[4, 4\] .*got \[3, 4\]",
        ),
        (
            lambda: changed("hg/bias", lambda b: b[:1]),
            r"hg/bias must be \[4\] .*got \[1\]",
        ),
        (
            lambda: changed("if/kernel", lambda w: w.astype(jnp.bfloat16)),
            "if/kernel is bfloat16 and .* float32",
        ),
        (lambda: changed("ho/bias", lambda b: b.astype(int)), "ho/bias .* got int32"),
        (lambda: changed("ii/bias", lambda _: jnp.zeros(4)), "got .*'ii/bias'"),
        (lambda: {"params": fresh()}, r"SimpleCell: \['params'\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(params, reason):
    with pytest.raises(ValueError, match=reason):
        from_linen(params())


def test_an_activation_is_for_a_simple_cell():
    with pytest.raises(ValueError, match="activation='relu' is for a SimpleCell, not LSTM"):
        from_linen(fresh(), activation="relu")
    with pytest.raises(ValueError, match="unknown activation"):
        from_linen(fresh(linen.SimpleCell), activation="sine")


def test_params_with_the_names_of_their_axes_are_unboxed():
    boxed = linen.with_partitioning(linen.initializers.ones, ("in", "out"))
    cell, x = linen.GRUCell(4, kernel_init=boxed), jnp.zeros(3)
    params = cell.init(jax.random.key(0), jnp.zeros(4), x)["params"]
    assert_equal(from_linen(params)[1].w_x, jnp.ones((3, 12)))

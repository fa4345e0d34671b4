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

"""Weights from and to Equinox: the same function and gradients, exact round trips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert_parity import (
    assert_close,
    assert_equal,
    assert_same_function,
    random_params,
)

from jaxrnn import GRU, LSTM, Bidirectional, Elman, ResetBeforeGRU
from jaxrnn.convert import from_equinox, to_equinox

eqx = pytest.importorskip("equinox")

CELLS = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_and_its_recurrence_are_the_same_function(name, precision):
    d, h = precision.sizes
    cell = CELLS[name](d, h, dtype=precision.dtype, key=jax.random.key(0))

    def peer(cell, xs):
        def step(carry, x):
            carry = jax.vmap(cell)(x, carry)
            return carry, carry[0] if name == "lstm" else carry

        start = jnp.zeros((xs.shape[1], h), xs.dtype)
        return jax.lax.scan(step, (start, start) if name == "lstm" else start, xs)

    ours, theirs = assert_same_function(from_equinox, peer, cell, precision, d)
    theirs = theirs if name == "lstm" else (theirs,)
    assert_close(tuple(ours), theirs, precision.tolerance)
    assert_equal(to_equinox(*from_equinox(cell)), cell)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_without_bias_has_biases_of_zeros(name):
    cell = CELLS[name](3, 4, use_bias=False, key=jax.random.key(0))
    _, params = from_equinox(cell)
    assert not np.any(params.b)
    assert not np.any(getattr(params, "b_n", 0))


@pytest.mark.parametrize("recurrence", [LSTM(3, 4), GRU(3, 4)], ids=str)
def test_params_come_back_bit_for_bit(recurrence, precision):
    params = random_params(recurrence, precision)
    again, params_again = from_equinox(to_equinox(recurrence, params))
    assert again == recurrence
    assert_equal(params_again, params)


def test_the_inner_bias_of_the_gru_is_its_own():
    cell = eqx.nn.GRUCell(3, 4, key=jax.random.key(0))
    _, params = from_equinox(cell)
    np.testing.assert_array_equal(params.b, cell.bias)
    np.testing.assert_array_equal(params.b_n, cell.bias_n)


@pytest.mark.parametrize(
    "recurrence, reason",
    [
        (ResetBeforeGRU(3, 4), "resets after the product"),
        (Elman(3, 4), "what converts is LSTM, GRU"),
        (Bidirectional(LSTM(3, 4), LSTM(3, 4)), "what converts is LSTM, GRU"),
    ],
    ids=str,
)
def test_what_equinox_cannot_hold_is_refused(recurrence, reason):
    with pytest.raises(ValueError, match=f"Equinox cannot hold.*{reason}"):
        to_equinox(recurrence, recurrence.init(jax.random.key(0)))


def test_another_module_is_refused():
    with pytest.raises(ValueError, match="takes an LSTMCell or a GRUCell, got Linear"):
        from_equinox(eqx.nn.Linear(3, 4, key=jax.random.key(0)))


class Derived(eqx.nn.LSTMCell):
    """Its `__call__` may be another function."""


def changed(name, change, kind=eqx.nn.GRUCell):
    cell = kind(3, 4, key=jax.random.key(0))
    return eqx.tree_at(lambda cell: getattr(cell, name), cell, replace_fn=change)


@pytest.mark.parametrize(
    "cell, reason",
    [
        (lambda: Derived(3, 4, key=jax.random.key(0)), "got Derived"),
        (
            lambda: eqx.filter_vmap(lambda key: eqx.nn.LSTMCell(3, 4, key=key))(
                jax.random.split(jax.random.key(0), 2)
            ),
            r"weight_ih must be \[16, 3\] .*got \[2, 16, 3\]",
        ),
        (
            lambda: changed("weight_hh", lambda w: w.T),
            r"weight_hh must be \[12, 4\] .*got \[4, 12\]",
        ),
        (lambda: changed("bias_n", lambda b: b[:1]), r"bias_n must be \[4\]"),
        (lambda: changed("bias", lambda b: None), "bias must hold floating-point numbers"),
        (
            lambda: changed("weight_hh", lambda w: w.astype(jnp.bfloat16)),
            "weight_hh is bfloat16 and weight_ih float32",
        ),
    ],
)
def test_classes_and_arrays_that_do_not_fit_are_refused(cell, reason):
    with pytest.raises(ValueError, match=reason):
        from_equinox(cell())

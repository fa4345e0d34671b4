"""Weights from and to Flax NNX: the same function and gradients, exact round trips."""

import jax
import jax.numpy as jnp
import pytest
from convert_parity import (
    assert_close,
    assert_equal,
    assert_same_function,
    random_params,
)
from flax import nnx

from jaxrnn import GRU, LSTM, Bidirectional, Elman, ResetBeforeGRU
from jaxrnn.convert import from_nnx, to_nnx

CELLS = {
    "lstm": nnx.LSTMCell,
    "optimized_lstm": nnx.OptimizedLSTMCell,
    "gru": nnx.GRUCell,
    "simple": nnx.SimpleCell,
}


def build(name, precision):
    """The cell without its weights, and random weights for it."""
    dtype = precision.dtype
    cell = CELLS[name](*precision.sizes, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0))
    graph, state = nnx.split(cell)
    return graph, precision.like(state)


def without_inner_bias(recurrence, params):
    if isinstance(recurrence, GRU):
        return params._replace(b_n=jnp.zeros_like(params.b_n))
    return params


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_and_its_recurrence_are_the_same_function(name, precision):
    graph, weights = build(name, precision)

    def convert(weights):
        return from_nnx(nnx.merge(graph, weights))

    def peer(weights, xs):
        start = jnp.zeros((xs.shape[1], precision.sizes[1]), xs.dtype)
        carry = (start, start) if "lstm" in name else start
        return jax.lax.scan(nnx.merge(graph, weights), carry, xs)

    ours, theirs = assert_same_function(
        convert, peer, weights, precision, precision.sizes[0]
    )
    # NNX carries (c, h), we (h, c).
    theirs = theirs[::-1] if "lstm" in name else (theirs,)
    assert_close(tuple(ours), theirs, precision.tolerance)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_filled_by_to_nnx_has_the_same_weights(name, precision):
    graph, weights = build(name, precision)
    filled = nnx.merge(graph, jax.tree.map(jnp.zeros_like, weights))
    assert to_nnx(*from_nnx(nnx.merge(graph, weights)), filled) is filled
    assert_equal(nnx.state(filled), weights)


@pytest.mark.parametrize(
    "recurrence", [LSTM(3, 4), GRU(3, 4), Elman(3, 4), Elman(3, 4, "relu")], ids=str
)
def test_params_come_back_bit_for_bit(recurrence, precision):
    params = without_inner_bias(recurrence, random_params(recurrence, precision))
    again, params_again = from_nnx(to_nnx(recurrence, params))
    assert again == recurrence
    assert_equal(params_again, params)


@pytest.mark.parametrize("recurrence", [LSTM(3, 4), GRU(3, 4), Elman(3, 4)], ids=str)
def test_params_in_half_precision_come_back_bit_for_bit(recurrence):
    params = recurrence.init(jax.random.key(0), jnp.bfloat16)
    assert_equal(from_nnx(to_nnx(recurrence, params))[1], params)


def test_a_gru_with_an_inner_bias_is_refused():
    cell = GRU(3, 4)
    params = cell.init(jax.random.key(0))._replace(b_n=jnp.ones(4))
    with pytest.raises(ValueError, match="no bias inside the reset product"):
        to_nnx(cell, params)


@pytest.mark.parametrize(
    "recurrence, reason",
    [
        (ResetBeforeGRU(3, 4), "resets after the product"),
        (Bidirectional(LSTM(3, 4), LSTM(3, 4)), "what converts is LSTM, GRU, Elman"),
    ],
    ids=str,
)
def test_what_nnx_cannot_hold_is_refused(recurrence, reason):
    with pytest.raises(ValueError, match=f"NNX cannot hold.*{reason}"):
        to_nnx(recurrence, recurrence.init(jax.random.key(0)))


def test_a_given_cell_of_another_kind_or_size_is_refused():
    lstm = LSTM(3, 4)
    params = lstm.init(jax.random.key(0))
    for other in (
        nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)),
        nnx.LSTMCell(3, 5, rngs=nnx.Rngs(0)),
    ):
        with pytest.raises(ValueError, match="the NNX cell is .*, not LSTM"):
            to_nnx(lstm, params, other)


@pytest.mark.parametrize(
    "cell, reason",
    [
        (lambda: nnx.LSTMCell(3, 4, gate_fn=jnp.tanh, rngs=nnx.Rngs(0)), "sigmoid gates"),
        (lambda: nnx.GRUCell(3, 4, activation_fn=jnp.sin, rngs=nnx.Rngs(0)), "and tanh"),
        (lambda: nnx.SimpleCell(3, 4, residual=True, rngs=nnx.Rngs(0)), "residual"),
        (lambda: nnx.SimpleCell(3, 4, activation_fn=jnp.sin, rngs=nnx.Rngs(0)), "Elman"),
        (lambda: nnx.Linear(3, 4, rngs=nnx.Rngs(0)), "got Linear"),
    ],
)
def test_cells_that_we_do_not_have_are_refused(cell, reason):
    with pytest.raises(ValueError, match=reason):
        from_nnx(cell())


def nnx_cell(kind=nnx.OptimizedLSTMCell, **options):
    return kind(3, 4, rngs=nnx.Rngs(0), **options)


def changed(name, change, kind=nnx.OptimizedLSTMCell):
    cell = nnx_cell(kind)
    linear, leaf = name.split(".")
    variable = getattr(getattr(cell, linear), leaf)
    variable.set_value(change(variable[...]))
    return cell


def without_bias():
    cell = nnx_cell(nnx.GRUCell)
    cell.dense_i = nnx.Linear(3, 12, use_bias=False, rngs=nnx.Rngs(0))
    return cell


@nnx.split_rngs(splits=2)
@nnx.vmap
def stacked(rngs):
    return nnx.LSTMCell(3, 4, rngs=rngs)


@pytest.mark.parametrize(
    "cell, reason",
    [
        (lambda: nnx_cell(dtype=jnp.bfloat16), "computes in dtype=bfloat16 .* of float32"),
        (
            lambda: nnx_cell(nnx.SimpleCell, dtype=jnp.float16),
            "dtype=float16 .* float32",
        ),
        (lambda: nnx_cell(promote_dtype=lambda xs, dtype: xs), "promote_dtype of its own"),
        (lambda: stacked(nnx.Rngs(0)), r"ii.kernel must be \[3, 4\] .*got \[2, 3, 4\]"),
        (
            lambda: changed("dense_i.kernel", lambda w: w.T),
            r"dense_i.kernel must be \[3, 16\] .*got \[16, 3\]",
        ),
        (
            lambda: changed("hf.bias", lambda b: b[:3], nnx.LSTMCell),
            r"hf.bias must be \[4\] .*got \[3\]",
        ),
        (
            lambda: changed("hf.bias", lambda b: b.astype(jnp.bfloat16), nnx.LSTMCell),
            "hf.bias is bfloat16 and ii.kernel float32",
        ),
        (without_bias, "dense_i.bias is wanted"),
    ],
)
def test_options_and_arrays_that_do_not_fit_are_refused(cell, reason):
    with pytest.raises(ValueError, match=reason):
        from_nnx(cell())


@pytest.mark.filterwarnings("ignore:carry_init is provided")
def test_a_start_other_than_zeros_is_refused():
    assert from_nnx(nnx_cell(carry_init=nnx.initializers.zeros_init()))[0] == LSTM(3, 4)
    with pytest.raises(ValueError, match="carry_init=.* give unroll the carry"):
        from_nnx(nnx_cell(carry_init=nnx.initializers.ones_init()))


def test_a_given_cell_that_computes_in_another_dtype_is_refused():
    params = LSTM(3, 4).init(jax.random.key(0))
    with pytest.raises(ValueError, match="computes in dtype=bfloat16"):
        to_nnx(LSTM(3, 4), params, nnx_cell(dtype=jnp.bfloat16))

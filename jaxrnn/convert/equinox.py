"""Equinox: `nn.LSTMCell` and `nn.GRUCell`."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cell import Cell, Recurrence
from jaxrnn.cells.gru import GRU, GRUParams, ResetBeforeGRU
from jaxrnn.cells.lstm import LSTM, LSTMParams
from jaxrnn.convert.layout import as_array, check_fit, counterpart, is_from


def from_equinox(cell: Any) -> tuple[Cell, Any]:
    """A cell and its params from an `eqx.nn.LSTMCell` or `eqx.nn.GRUCell`.

        cell, params = from_equinox(eqx.nn.GRUCell(64, 256, key=key))

    `use_bias=False` becomes biases of zeros. Raises ValueError for anything else, for a
    class derived from them, and for arrays that do not fit, such as the stacked ones of
    `eqx.filter_vmap`.
    """
    kind = type(cell).__name__
    if kind not in ("LSTMCell", "GRUCell") or not is_from("equinox", cell):
        raise ValueError(f"from_equinox takes an LSTMCell or a GRUCell, got {kind}")
    size, gates = cell.hidden_size, 4 if kind == "LSTMCell" else 3
    shapes = {
        "weight_ih": (gates * size, cell.input_size),
        "weight_hh": (gates * size, size),
    }
    if cell.use_bias:
        shapes |= {"bias": (gates * size,)} | ({} if gates == 4 else {"bias_n": (size,)})
    arrays = {name: as_array(getattr(cell, name), name) for name in shapes}
    check_fit(arrays, shapes)
    w_x, w_h = arrays["weight_ih"].T, arrays["weight_hh"].T
    b = arrays.get("bias", jnp.zeros(gates * size, w_x.dtype))
    if kind == "LSTMCell":
        return LSTM(cell.input_size, size), LSTMParams(w_x=w_x, w_h=w_h, b=b)
    b_n = arrays.get("bias_n", jnp.zeros(size, w_x.dtype))
    return GRU(cell.input_size, size), GRUParams(w_x=w_x, w_h=w_h, b=b, b_n=b_n)


def to_equinox(recurrence: Recurrence, params: Any) -> Any:
    """The Equinox cell that computes the same.

        eqx_cell = to_equinox(cell, params)              # cell: LSTM or GRU
        h, c = eqx_cell(x, (h, c))                       # one step of an LSTM

    `from_equinox` gives back exactly `params`. Raises ValueError for what Equinox has no
    cell for: everything but `LSTM` and `GRU`.
    """
    return counterpart("Equinox", recurrence, WRITERS, REASONS)(recurrence, params)


def _write_lstm(cell: LSTM, params: LSTMParams) -> Any:
    import equinox as eqx

    return eqx.tree_at(
        lambda empty: (empty.weight_ih, empty.weight_hh, empty.bias),
        eqx.nn.LSTMCell(cell.input_size, cell.hidden_size, key=jax.random.key(0)),
        (params.w_x.T, params.w_h.T, params.b),
    )


def _write_gru(cell: GRU, params: GRUParams) -> Any:
    import equinox as eqx

    return eqx.tree_at(
        lambda empty: (empty.weight_ih, empty.weight_hh, empty.bias, empty.bias_n),
        eqx.nn.GRUCell(cell.input_size, cell.hidden_size, key=jax.random.key(0)),
        (params.w_x.T, params.w_h.T, params.b, params.b_n),
    )


WRITERS = {LSTM: _write_lstm, GRU: _write_gru}
REASONS = {ResetBeforeGRU: "its GRU resets after the product, another function"}

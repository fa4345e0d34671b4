"""Flax NNX: `LSTMCell`, `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrnn.activations import ACTIVATIONS
from jaxrnn.cell import Cell
from jaxrnn.convert.layout import as_array, counterpart, function_of
from jaxrnn.elman import Elman, ElmanParams
from jaxrnn.gru import GRU, GRUParams, ResetBeforeGRU
from jaxrnn.lstm import LSTM, LSTMParams

KINDS = {
    nnx.LSTMCell: LSTM,
    nnx.OptimizedLSTMCell: LSTM,
    nnx.GRUCell: GRU,
    nnx.SimpleCell: Elman,
}
FRESH = {LSTM: nnx.OptimizedLSTMCell, GRU: nnx.GRUCell, Elman: nnx.SimpleCell}
REASONS = {ResetBeforeGRU: "its GRUCell resets after the product, another function"}


def from_nnx(cell: nnx.RNNCellBase) -> tuple[Cell, Any]:
    """A cell and its params from an NNX cell.

        cell, params = from_nnx(nnx.OptimizedLSTMCell(64, 256, rngs=nnx.Rngs(0)))

    The GRUCell of NNX has no bias inside the reset product, so b_n is zero. NNX's LSTM
    carry is (c, h), ours (h, c). Raises ValueError for any other module, for a SimpleCell
    with `residual`, and for activations that our cells do not have.
    """
    recurrence = _recurrence(cell)
    fields = {
        field: jnp.concatenate([as_array(piece[...]) for piece in pieces], axis=-1)
        for field, pieces in _variables(cell).items()
    }
    if isinstance(recurrence, LSTM):
        return recurrence, LSTMParams(**fields)
    if isinstance(recurrence, GRU):
        b_n = jnp.zeros(recurrence.hidden_size, fields["b"].dtype)
        return recurrence, GRUParams(**fields, b_n=b_n)
    return recurrence, ElmanParams(**fields)


def to_nnx(
    recurrence: Cell, params: Any, cell: nnx.RNNCellBase | None = None
) -> nnx.RNNCellBase:
    """The NNX cell that computes the same: `cell`, overwritten, or a new one.

        model.encoder.cell = to_nnx(cell, params)
        to_nnx(cell, params, model.encoder.cell)          # in place

    A new one is an OptimizedLSTMCell for an `LSTM`, a GRUCell for a `GRU`, a SimpleCell
    for an `Elman`. `from_nnx` gives back exactly `params`. Raises ValueError for what NNX
    has no cell for, for a `cell` of another kind or size, and for a `GRU` whose b_n is
    not zero: NNX's GRUCell leaves that bias out.
    """
    counterpart("NNX", recurrence, FRESH, REASONS)
    if isinstance(recurrence, GRU) and bool(jnp.any(params.b_n != 0)):
        raise ValueError(
            f"NNX cannot hold {recurrence} with these params: its GRUCell has no bias "
            f"inside the reset product, and b_n is not zero: {params.b_n}"
        )
    if cell is None:
        cell = _fresh(recurrence, params.w_x.dtype)
    if function_of(_recurrence(cell)) != function_of(recurrence):
        raise ValueError(f"the NNX cell is {_recurrence(cell)}, not {recurrence}")
    for field, pieces in _variables(cell).items():
        blocks = jnp.split(getattr(params, field), len(pieces), axis=-1)
        for piece, block in zip(pieces, blocks, strict=True):
            piece.set_value(block)
    return cell


def _fresh(recurrence: Cell, dtype: Any) -> nnx.RNNCellBase:
    constants: dict[str, Any] = {"dtype": dtype, "param_dtype": dtype}
    if isinstance(recurrence, Elman):
        constants["activation_fn"] = ACTIVATIONS[recurrence.activation]
    return FRESH[type(recurrence)](
        recurrence.input_size, recurrence.hidden_size, rngs=nnx.Rngs(0), **constants
    )


def _recurrence(cell: Any) -> Cell:
    kind = KINDS.get(type(cell))
    if kind is None:
        known = ", ".join(cls.__name__ for cls in KINDS)
        raise ValueError(f"from_nnx takes an NNX {known}, got {type(cell).__name__}")
    sizes = cell.in_features, cell.hidden_features
    if kind is Elman:
        if cell.residual:
            raise ValueError(
                "an Elman has no residual connection inside its activation, as this "
                "SimpleCell has (residual=True)"
            )
        return Elman(*sizes, _name(cell.activation_fn))
    if (cell.gate_fn, cell.activation_fn) != (jax.nn.sigmoid, jnp.tanh):
        raise ValueError(
            f"the {kind.__name__} has sigmoid gates and tanh, this cell has "
            f"{cell.gate_fn} and {cell.activation_fn}"
        )
    return kind(*sizes)


def _name(function: Any) -> str:
    for name, known in ACTIVATIONS.items():
        if function is known:
            return name
    raise ValueError(
        f"the activation {function} is none of those of an Elman: {', '.join(ACTIVATIONS)}"
    )


def _variables(cell: Any) -> dict[str, list[Any]]:
    """The variables that hold each of our parameters, in pieces side by side."""
    if type(cell) is nnx.LSTMCell:
        inputs = [cell.ii, cell.if_, cell.ig, cell.io]
        hidden = biased = [cell.hi, cell.hf, cell.hg, cell.ho]
    else:
        inputs, hidden = [cell.dense_i], [cell.dense_h]
        biased = hidden if type(cell) is nnx.OptimizedLSTMCell else inputs
    return {
        "w_x": [linear.kernel for linear in inputs],
        "w_h": [linear.kernel for linear in hidden],
        "b": [linear.bias for linear in biased],
    }

"""Flax NNX: `LSTMCell`, `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jax import Array

from jaxrnn.cell import Cell
from jaxrnn.cells.activations import ACTIVATIONS
from jaxrnn.cells.elman import Elman, ElmanParams
from jaxrnn.cells.gru import GRU, GRUParams, ResetBeforeGRU
from jaxrnn.cells.lstm import LSTM, LSTMParams
from jaxrnn.convert.layout import as_array, check_fit, counterpart, function_of

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
    with `residual`, for activations that our cells do not have, for a `dtype` of
    computation that is not the parameters', for a `carry_init` other than zeros, and for
    arrays that do not fit, such as the stacked ones of `nnx.vmap`.
    """
    recurrence = _recurrence(cell)
    arrays = _arrays(cell, recurrence)
    _check_dtype(cell, next(iter(arrays.values())).dtype)
    fields = {
        field: jnp.concatenate([arrays[name] for name in names], axis=-1)
        for field, names in _names(cell).items()
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
    _check_dtype(cell, params.w_x.dtype)
    for field, names in _names(cell).items():
        blocks = jnp.split(getattr(params, field), len(names), axis=-1)
        for name, block in zip(names, blocks, strict=True):
            _variable(cell, name).set_value(block)
    return cell


def _fresh(recurrence: Cell, dtype: Any) -> nnx.RNNCellBase:
    # Overwritten at once; LAPACK knows no orthogonal matrices in half precision.
    constants: dict[str, Any] = {"recurrent_kernel_init": nnx.initializers.zeros}
    constants |= {"dtype": dtype, "param_dtype": dtype}
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
    if cell.carry_init not in (None, nnx.initializers.zeros):
        raise ValueError(
            f"the carry of this {kind.__name__} begins with carry_init={cell.carry_init}, "
            "ours with zeros: convert it without and give unroll the carry"
        )
    if cell.promote_dtype is not promote_dtype:
        raise ValueError(f"this cell has a promote_dtype of its own: {cell.promote_dtype}")
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


def _names(cell: Any) -> dict[str, list[str]]:
    """The variables that hold each of our parameters, in pieces side by side."""
    if type(cell) is nnx.LSTMCell:
        inputs, hidden = ["ii", "if_", "ig", "io"], ["hi", "hf", "hg", "ho"]
    else:
        inputs, hidden = ["dense_i"], ["dense_h"]
    lstm = isinstance(cell, nnx.LSTMCell | nnx.OptimizedLSTMCell)
    return {
        "w_x": [f"{linear}.kernel" for linear in inputs],
        "w_h": [f"{linear}.kernel" for linear in hidden],
        "b": [f"{linear}.bias" for linear in (hidden if lstm else inputs)],
    }


def _variable(cell: Any, name: str) -> Any:
    linear, leaf = name.split(".")
    layer = getattr(cell, linear)
    if type(layer) is not nnx.Linear or getattr(layer, leaf) is None:
        raise ValueError(f"{name} is wanted of an nnx.Linear, {linear} is {layer}")
    return getattr(layer, leaf)


def _arrays(cell: Any, recurrence: Cell) -> dict[str, Array]:
    """The values of the variables, which fit the sizes of the cell."""
    names = _names(cell)
    arrays = {
        name: as_array(_variable(cell, name)[...], name)
        for pieces in names.values()
        for name in pieces
    }
    rows = {"w_x": (recurrence.input_size,), "w_h": (recurrence.hidden_size,), "b": ()}
    gates = {LSTM: 4, GRU: 3, Elman: 1}[type(recurrence)]
    shapes = {
        name: (*rows[field], gates * recurrence.hidden_size // len(pieces))
        for field, pieces in names.items()
        for name in pieces
    }
    check_fit(arrays, shapes)
    return arrays


def _check_dtype(cell: Any, dtype: Any) -> None:
    if cell.dtype is not None and jnp.dtype(cell.dtype) != dtype:
        raise ValueError(
            f"this {type(cell).__name__} computes in dtype={jnp.dtype(cell.dtype)} with "
            f"parameters of {dtype}, our cells in their parameters' dtype: make them one"
        )

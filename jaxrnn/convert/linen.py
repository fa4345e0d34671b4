"""Flax Linen: `LSTMCell`, `OptimizedLSTMCell`, `GRUCell`, `SimpleCell`, `ConvLSTMCell`."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax.core import meta
from flax.traverse_util import flatten_dict
from jax import Array

from jaxrnn.cell import Cell, Recurrence
from jaxrnn.cells.convlstm import ConvLSTM, ConvLSTMParams
from jaxrnn.cells.elman import Elman, ElmanParams
from jaxrnn.cells.gru import GRU, GRUParams, MinimalGRU, ResetBeforeGRU
from jaxrnn.cells.lstm import LSTM, LSTMParams
from jaxrnn.convert.layout import as_array, check_fit, counterpart, matrix_shape, reorder

# Where Linen keeps each of our parameters: the gates' names, and the leaf below them.
PLACES = {
    LSTM: {
        "w_x": (("ii", "if", "ig", "io"), "kernel"),
        "w_h": (("hi", "hf", "hg", "ho"), "kernel"),
        "b": (("hi", "hf", "hg", "ho"), "bias"),
    },
    GRU: {
        "w_x": (("ir", "iz", "in"), "kernel"),
        "w_h": (("hr", "hz", "hn"), "kernel"),
        "b": (("ir", "iz", "in"), "bias"),
        "b_n": (("hn",), "bias"),
    },
    Elman: {
        "w_x": (("i",), "kernel"),
        "w_h": (("h",), "kernel"),
        "b": (("i",), "bias"),
    },
}
CONV_ORDER = (0, 2, 1, 3)  # i, g, f, o of a ConvLSTMCell; its own inverse
PARAMS = {LSTM: LSTMParams, GRU: GRUParams, Elman: ElmanParams}
MGU = {"if", "in", "hf", "hn"}
MGU_REASON = (
    "Linen's MGUCell resets after the product and keeps h where its gate is open, "
    "MinimalGRU resets before it and takes the candidate there: another function"
)
REASONS = {
    ResetBeforeGRU: "its GRUCell resets after the product, another function",
    MinimalGRU: MGU_REASON,
}


def from_linen(
    params: Mapping[str, Any],
    *,
    activation: str = "tanh",
    spatial_shape: tuple[int, ...] | None = None,
) -> tuple[Cell, Any]:
    """A cell and its params from the "params" of a Linen cell.

        variables = linen.OptimizedLSTMCell(256).init(key, carry, x)
        cell, params = from_linen(variables["params"])

    The kind of cell is seen from the names in the tree, which do not tell its options:
    the gates are taken to be sigmoid and tanh, the computation to have the dtype of the
    params, and the carry to begin with zeros, Linen's defaults; `activation` is that of a
    SimpleCell (without `residual`). The params of a ConvLSTMCell (of padding "SAME" and no
    strides) do not tell how large space is: `spatial_shape` does. Linen's LSTM carry is
    (c, h), ours (h, c). Raises ValueError for the params of any other module, `MGUCell`
    among them, which is not `MinimalGRU`, and for arrays that do not fit.
    """
    if set(params) == {"ih", "hh"} and spatial_shape is not None:
        return _from_conv(params, spatial_shape)
    kind = _kind(set(params))
    if spatial_shape is not None:
        raise ValueError(f"spatial_shape is for a ConvLSTMCell, not {kind.__name__}")
    if activation != "tanh" and kind is not Elman:
        raise ValueError(
            f"activation={activation!r} is for a SimpleCell, not {kind.__name__}"
        )
    places = {
        field: [f"{name}/{leaf}" for name in names]
        for field, (names, leaf) in PLACES[kind].items()
    }
    arrays = _arrays(params, [name for names in places.values() for name in names])
    (first, *_) = places["w_x"]
    input_size, size = matrix_shape(first, arrays[first])
    rows = {"w_x": (input_size,), "w_h": (size,)}
    shapes = {n: (*rows.get(field, ()), size) for field in places for n in places[field]}
    check_fit(arrays, shapes)
    ours = PARAMS[kind](
        **{
            field: jnp.concatenate([arrays[name] for name in names], axis=-1)
            for field, names in places.items()
        }
    )
    constants = {"activation": activation} if kind is Elman else {}
    return kind(input_size, size, **constants), ours  # pyright: ignore


def _arrays(params: Mapping[str, Any], names: list[str]) -> dict[str, Array]:
    given, wanted = flatten_dict(meta.unbox(params), sep="/"), sorted(names)
    if sorted(given) != wanted:
        raise ValueError(f"a Linen cell of these names has {wanted}, got {sorted(given)}")
    return {name: as_array(given[name], name) for name in wanted}


def _kind(given: set[str]) -> type[Cell]:
    for kind, places in PLACES.items():
        if given == {name for names, _ in places.values() for name in names}:
            return kind
    if given == MGU:
        raise ValueError(f"an MGUCell cannot be converted: {MGU_REASON}")
    if given == {"ih", "hh"}:
        raise ValueError("the params of a ConvLSTMCell need spatial_shape, got None")
    raise ValueError(
        f"not the params of a Linen LSTMCell, GRUCell or SimpleCell: {sorted(given)}"
    )


def to_linen(recurrence: Recurrence, params: Any) -> dict[str, dict[str, Array]]:
    """The "params" of the Linen cell that computes the same.

        variables = {"params": to_linen(cell, params)}
        carry, y = linen.OptimizedLSTMCell(256).apply(variables, carry, x)

    An `LSTM` becomes the tree that LSTMCell and OptimizedLSTMCell share, a `GRU` a
    GRUCell's, an `Elman` a SimpleCell's, whose `activation_fn` must be set to its
    activation, a `ConvLSTM` a ConvLSTMCell's of that `kernel_size`. `from_linen` gives back
    exactly `params`. Raises ValueError for what Linen has no cell for.
    """
    if type(recurrence) is ConvLSTM:
        return _to_conv(params)
    tree = {}
    places = counterpart("Linen", recurrence, PLACES, REASONS)
    for field, (names, leaf) in places.items():
        blocks = jnp.split(getattr(params, field), len(names), axis=-1)
        for name, block in zip(names, blocks, strict=True):
            tree.setdefault(name, {})[leaf] = block
    return tree


def _from_conv(
    params: Mapping[str, Any], spatial_shape: tuple[int, ...]
) -> tuple[ConvLSTM, ConvLSTMParams]:
    names = [f"{conv}/{leaf}" for conv in ("ih", "hh") for leaf in ("kernel", "bias")]
    arrays = _arrays(params, names)
    w_x, b_x, w_h, b_h = (arrays[name] for name in names)
    if w_x.ndim < 3:
        raise ValueError(f"ih/kernel must be that of a convolution, got {list(w_x.shape)}")
    *kernel, input_size, width = w_x.shape
    shapes = w_x.shape, (width,), (*kernel, width // 4, width), (width,)
    check_fit(arrays, dict(zip(names, shapes, strict=True)))
    w_x, b_x, w_h, b_h = (reorder(x, CONV_ORDER) for x in (w_x, b_x, w_h, b_h))
    cell = ConvLSTM(input_size, width // 4, spatial_shape, tuple(kernel))
    return cell, ConvLSTMParams(w_x, w_h, b_x + (b_h + _added_at_run_time(b_h)))


def _to_conv(params: ConvLSTMParams) -> dict[str, dict[str, Array]]:
    b_h = -_added_at_run_time(params.b)
    w_x, w_h, b_x, b_h = (reorder(x, CONV_ORDER) for x in (*params, b_h))
    return {"ih": {"kernel": w_x, "bias": b_x}, "hh": {"kernel": w_h, "bias": b_h}}


def _added_at_run_time(b: Array) -> Array:
    """The 1 that a ConvLSTMCell adds to its forget gate, in biases `[4H]` of our order."""
    size = len(b) // 4
    return jnp.zeros_like(b).at[size : 2 * size].set(1)

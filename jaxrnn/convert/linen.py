"""Flax Linen: `LSTMCell`, `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax.core import meta
from flax.traverse_util import flatten_dict
from jax import Array

from jaxrnn.cell import Cell, Recurrence
from jaxrnn.cells.elman import Elman, ElmanParams
from jaxrnn.cells.gru import GRU, GRUParams, MinimalGRU, ResetBeforeGRU
from jaxrnn.cells.lstm import LSTM, LSTMParams
from jaxrnn.convert.layout import as_array, check_fit, counterpart, matrix_shape

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


def from_linen(params: Mapping[str, Any], *, activation: str = "tanh") -> tuple[Cell, Any]:
    """A cell and its params from the "params" of a Linen cell.

        variables = linen.OptimizedLSTMCell(256).init(key, carry, x)
        cell, params = from_linen(variables["params"])

    The kind of cell is seen from the names in the tree, which do not tell its options:
    the gates are taken to be sigmoid and tanh, the computation to have the dtype of the
    params, and the carry to begin with zeros, Linen's defaults; `activation` is that of a
    SimpleCell (without `residual`). Linen's LSTM carry is (c, h), ours (h, c). Raises
    ValueError for the params of any other module, `MGUCell` among them, which is not
    `MinimalGRU`, and for arrays that do not fit.
    """
    kind = _kind(set(params))
    if activation != "tanh" and kind is not Elman:
        raise ValueError(
            f"activation={activation!r} is for a SimpleCell, not {kind.__name__}"
        )
    places = {
        field: [f"{name}/{leaf}" for name in names]
        for field, (names, leaf) in PLACES[kind].items()
    }
    given = flatten_dict(meta.unbox(params), sep="/")
    wanted = sorted(name for names in places.values() for name in names)
    if sorted(given) != wanted:
        raise ValueError(f"a Linen cell of these names has {wanted}, got {sorted(given)}")
    arrays = {name: as_array(given[name], name) for name in wanted}
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


def _kind(given: set[str]) -> type[Cell]:
    for kind, places in PLACES.items():
        if given == {name for names, _ in places.values() for name in names}:
            return kind
    if given == MGU:
        raise ValueError(f"an MGUCell cannot be converted: {MGU_REASON}")
    raise ValueError(
        f"not the params of a Linen LSTMCell, GRUCell or SimpleCell: {sorted(given)}"
    )


def to_linen(recurrence: Recurrence, params: Any) -> dict[str, dict[str, Array]]:
    """The "params" of the Linen cell that computes the same.

        variables = {"params": to_linen(cell, params)}
        carry, y = linen.OptimizedLSTMCell(256).apply(variables, carry, x)

    An `LSTM` becomes the tree that LSTMCell and OptimizedLSTMCell share, a `GRU` a
    GRUCell's, an `Elman` a SimpleCell's, whose `activation_fn` must be set to its
    activation. `from_linen` gives back exactly `params`. Raises ValueError for what
    Linen has no cell for.
    """
    tree = {}
    places = counterpart("Linen", recurrence, PLACES, REASONS)
    for field, (names, leaf) in places.items():
        blocks = jnp.split(getattr(params, field), len(names), axis=-1)
        for name, block in zip(names, blocks, strict=True):
            tree.setdefault(name, {})[leaf] = block
    return tree

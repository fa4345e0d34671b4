"""Flax Linen: `LSTMCell`, `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, Recurrence
from jaxrnn.convert.layout import as_array, counterpart
from jaxrnn.elman import Elman, ElmanParams
from jaxrnn.gru import GRU, GRUParams, MinimalGRU, ResetBeforeGRU
from jaxrnn.lstm import LSTM, LSTMParams

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

    The kind of cell is seen from the names in the tree, which do not tell its functions:
    the gates are taken to be sigmoid and tanh, Linen's defaults, and `activation` is that
    of a SimpleCell (without `residual`). Linen's LSTM carry is (c, h), ours (h, c).
    Raises ValueError for the params of any other module, `MGUCell` among them, which is
    not `MinimalGRU`.
    """
    for kind, places in PLACES.items():
        if set(params) == {name for names, _ in places.values() for name in names}:
            ours = PARAMS[kind](
                **{
                    field: jnp.concatenate(
                        [as_array(params[name][leaf]) for name in names], axis=-1
                    )
                    for field, (names, leaf) in places.items()
                }
            )
            constants = {"activation": activation} if kind is Elman else {}
            return kind(ours.w_x.shape[0], ours.w_h.shape[0], **constants), ours
    if set(params) == MGU:
        raise ValueError(f"an MGUCell cannot be converted: {MGU_REASON}")
    raise ValueError(
        f"not the params of a Linen LSTMCell, GRUCell or SimpleCell: {sorted(params)}"
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

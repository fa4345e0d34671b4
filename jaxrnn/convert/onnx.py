"""ONNX: the nodes `LSTM`, `GRU` and `RNN`, in every direction, and models made of them."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cell import Cell, Recurrence
from jaxrnn.cells.elman import Elman, ElmanParams
from jaxrnn.cells.gru import GRU, GRUParams, ResetBeforeGRU, ResetBeforeGRUParams
from jaxrnn.cells.lstm import (
    LSTM,
    CoupledLSTM,
    CoupledLSTMParams,
    LSTMParams,
)
from jaxrnn.cells.peephole import (
    CoupledPeepholeLSTM,
    CoupledPeepholeLSTMParams,
    PeepholeLSTM,
    PeepholeLSTMParams,
)
from jaxrnn.compose import Bidirectional, Reversed, Stack
from jaxrnn.convert.layout import (
    as_array,
    check_fit,
    check_one_dtype,
    merge_biases,
    reorder,
)
from jaxrnn.convert.onnx_graph import Found, find_nodes

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# Which of its blocks (i, o, f, c; z, r, h; of peepholes i, o, f) are ours, in our order.
LSTM_ORDER, COUPLED_ORDER, GRU_ORDER = (0, 2, 3, 1), (0, 3, 1), (1, 0, 2)
PEEPHOLE_ORDER, COUPLED_PEEPHOLE_ORDER = (0, 2, 1), (0, 1)

# The elementwise functions that are the same, each with its constants left alone.
ACTIVATIONS = {
    "Tanh": "tanh",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid",
    "Softsign": "softsign",
    "Softplus": "softplus",
    "Elu": "elu",
}
# What a node's functions are of, in its order, and which they are unless it says so.
OF_LSTM = ("gate_activation", "candidate_activation", "output_activation")
USUAL = {
    "LSTM": dict(zip(OF_LSTM, ("Sigmoid", "Tanh", "Tanh"), strict=True)),
    "GRU": {"gate_activation": "Sigmoid", "candidate_activation": "Tanh"},
    "RNN": {"activation": "Tanh"},
}


def from_onnx(
    source: Any,
    initializers: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
) -> tuple[Recurrence, Any]:
    """A recurrence and its params from the recurrent nodes of ONNX.

        recurrence, params = from_onnx("model.onnx")
        recurrence, params = from_onnx(model, name="/encoder/LSTM")
        recurrence, params = from_onnx(node, {"W": w, "R": r})

    `source` is a file or a ModelProto, of which one node is chosen by `name` or all are
    taken, which then follow one another; or a NodeProto, with its constants by the names
    of its inputs. An LSTM becomes an LSTM, with P a PeepholeLSTM, with `input_forget` a
    CoupledLSTM, with both a CoupledPeepholeLSTM; a GRU a ResetBeforeGRU, with
    `linear_before_reset` a GRU; an RNN an Elman. `direction` "reverse" becomes a Reversed,
    "bidirectional" a Bidirectional, several nodes a Stack. Two biases become one, but for
    the GRU's inner one.

    Time leads whatever `layout` was. `sequence_lens` are the mask that `unroll` takes
    (`length_mask`), `initial_h` and `initial_c` its carry. Y is `[T, directions, B, H]`,
    where ours are `[T, B, directions * H]`.

    Raises ValueError for what our cells do not compute (an activation with constants of its
    own, a clip beside peepholes or of an RNN), for weights that are no constants, and for a
    carry that is one and not zero; ImportError without the library `onnx`, which the extra
    `export` brings.
    """
    layers = [_read(found) for found in find_nodes(source, initializers, name)]
    check_one_dtype([params for _, params in layers])
    if len(layers) == 1:
        return layers[0]
    recurrences, params = zip(*layers, strict=True)
    return Stack(recurrences), params


def _read(found: Found) -> tuple[Recurrence, Any]:
    attributes, arrays = found.attributes, found.arrays
    for place in ("W", "R", "B", "P"):
        if place not in arrays and (place in found.given or place in "WR"):
            raise ValueError(f"{found.name} has no {place} among the constants")
    for place in ("initial_h", "initial_c"):
        if np.any(arrays.get(place, 0)):
            raise ValueError(
                f"{found.name} begins with an {place} of its own: take it out of the graph "
                "and give it to unroll as the carry"
            )
    direction = attributes.get("direction", b"forward").decode()
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ValueError(f"{found.name} has an unknown direction, {direction!r}")
    count = 2 if direction == "bidirectional" else 1
    weights = {
        place: as_array(arrays[place], f"{place} of {found.name}")
        for place in "WRBP"
        if place in arrays
    }
    _check_shapes(found, weights, count)
    cells = [
        _read_direction(found, {k: w[n] for k, w in weights.items()}, n, count)
        for n in range(count)
    ]
    if count == 2:
        (forward, backward), params = zip(*cells, strict=True)
        return Bidirectional(forward, backward), params
    cell, params = cells[0]
    return (Reversed(cell), (params,)) if direction == "reverse" else (cell, params)


def _check_shapes(found: Found, weights: dict[str, Array], count: int) -> None:
    for place in "WR":
        if weights[place].ndim != 3:
            raise ValueError(
                f"{place} of {found.name} must be [directions, gates, features], got shape "
                f"{list(weights[place].shape)}"
            )
    size, width = weights["R"].shape[-1], GATES[found.op] * weights["R"].shape[-1]
    shapes = {
        "W": (count, width, weights["W"].shape[-1]),
        "R": (count, width, size),
        "B": (count, 2 * width),
        "P": (count, 3 * size),
    }
    check_fit(weights, {place: shapes[place] for place in weights})
    if found.attributes.get("hidden_size", size) != size:
        raise ValueError(
            f"{found.name} has hidden_size {found.attributes['hidden_size']}, and R has "
            f"{size} units"
        )


def _read_direction(
    found: Found, weights: dict[str, Array], number: int, count: int
) -> tuple[Cell, Any]:
    w_x, w_h = weights["W"].T, weights["R"].T
    b_x, b_h = jnp.split(weights.get("B", jnp.zeros(2 * w_x.shape[1], w_x.dtype)), 2)
    sizes = w_x.shape[0], w_h.shape[0]
    options = _options(found, number, count)
    if found.op == "RNN":
        return Elman(*sizes, **options), ElmanParams(w_x=w_x, w_h=w_h, b=b_x + b_h)
    if found.op == "GRU":
        w_x, w_h, b_x, b_h = (reorder(x, GRU_ORDER) for x in (w_x, w_h, b_x, b_h))
        if not found.attributes.get("linear_before_reset", 0):
            params = ResetBeforeGRUParams(w_x=w_x, w_h=w_h, b=b_x + b_h)
            return ResetBeforeGRU(*sizes, **options), params
        b, b_n = merge_biases(b_x, b_h)
        return GRU(*sizes, **options), GRUParams(w_x=w_x, w_h=w_h, b=b, b_n=b_n)
    coupled = found.attributes.get("input_forget", 0)
    order = COUPLED_ORDER if coupled else LSTM_ORDER
    w_x, w_h, b = (reorder(x, order, 4) for x in (w_x, w_h, b_x + b_h))
    if "P" not in weights:
        kind, of = (CoupledLSTM, CoupledLSTMParams) if coupled else (LSTM, LSTMParams)
        return kind(*sizes, **options), of(w_x=w_x, w_h=w_h, b=b)
    peepholes = {"w_x": w_x, "w_h": w_h, "b": b}
    if coupled:
        w_c = reorder(weights["P"], COUPLED_PEEPHOLE_ORDER, 3)
        params = CoupledPeepholeLSTMParams(w_c=w_c, **peepholes)
        return CoupledPeepholeLSTM(*sizes, **options), params
    w_c = reorder(weights["P"], PEEPHOLE_ORDER)
    params = PeepholeLSTMParams(w_c=w_c, **peepholes)
    return PeepholeLSTM(*sizes, **options), params


def _options(found: Found, number: int, count: int) -> dict[str, Any]:
    """What direction `number` computes elementwise, as options of our cells."""
    clip = found.attributes.get("clip")
    # Of peepholes the runtimes clip another sum than the specification says.
    if clip and (found.op == "RNN" or "P" in found.arrays):
        what = "an RNN" if found.op == "RNN" else "an LSTM with peepholes"
        raise ValueError(
            f"{found.name} clips at {clip}, our counterpart of {what} does not"
        )
    for constants in ("activation_alpha", "activation_beta"):
        if found.attributes.get(constants):
            raise ValueError(f"{found.name} has {constants}, our cells' functions none")
    usual = USUAL[found.op]
    given = [name.decode() for name in found.attributes.get("activations", [])]
    own = (given or [*usual.values()] * count)[number * len(usual) :][: len(usual)]
    known = {name.lower(): ours for name, ours in ACTIVATIONS.items()}
    names = [known.get(name.lower()) for name in own]  # runtimes take either case
    if len(names) != len(usual) or None in names:
        raise ValueError(
            f"{found.name} has the activations {own}, our cells {len(usual)} of "
            f"{', '.join(ACTIVATIONS)}"
        )
    options = dict(zip(usual, names, strict=True))
    return options | ({"activation_clip": float(clip)} if clip else {})

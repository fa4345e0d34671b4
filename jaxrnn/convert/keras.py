"""Keras 3: `LSTM`, `GRU`, `SimpleRNN` and `Bidirectional`, on any backend."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cell import Cell, Recurrence
from jaxrnn.cells.elman import Elman, ElmanParams
from jaxrnn.cells.gru import GRU, GRUParams, ResetBeforeGRU, ResetBeforeGRUParams
from jaxrnn.cells.lstm import LSTM, LSTMParams
from jaxrnn.compose import Bidirectional, Stack
from jaxrnn.convert.layout import (
    as_array,
    check_fit,
    check_one_dtype,
    counterpart,
    is_from,
    matrix_shape,
    merge_biases,
    reorder,
    split_biases,
)

LAYERS = {"LSTM", "GRU", "SimpleRNN", "RNN"}
MERGES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "product"}
# By Keras's names. Our "hard_sigmoid", of slope 1/5, is that of Keras 1 and 2.
ACTIVATIONS = {
    "tanh": "tanh",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "hard_sigmoid[1/6]",
    "softsign": "softsign",
    "softplus": "softplus",
    "elu": "elu",
    "linear": "identity",
}
OPTIONS = "gate_activation", "candidate_activation", "output_activation"
GRU_ORDER = (1, 0, 2)  # z, r, h; its own inverse


def from_keras(layer: Any) -> tuple[Recurrence, Any]:
    """A recurrence and its params from built Keras layers.

        recurrence, params = from_keras(model.get_layer("bidirectional"))
        recurrence, params = from_keras([model.layers[1], model.layers[2]])

    An `LSTM` layer becomes an LSTM, `GRU` a GRU (`reset_after=True`, the default) or a
    ResetBeforeGRU, `SimpleRNN` an Elman, `Bidirectional` a Bidirectional with the same
    merge, `StackedRNNCells` in an `RNN` or a list of layers a Stack. `use_bias=False`
    becomes a bias of zeros. `activation` is the candidate's and, of an LSTM, the output's;
    `recurrent_activation` is the gates'.

    The result computes what `layer(x, training=False)` does, at every step: `dropout`,
    `recurrent_dropout`, regularisers and constraints, which act in training alone, are
    not carried over, and `return_sequences`, `return_state` and `unroll` do not matter
    (without `return_sequences` a Bidirectional of Keras gives the last output of each
    direction: those in our carry).

    Raises ValueError for any other layer or a class derived from these, for activations
    that our cells do not have, for a policy that computes in another dtype than that of
    the weights, for `stateful=True` and for `go_backwards=True` outside a Bidirectional.
    """
    if isinstance(layer, Sequence):
        return _read_list(layer)
    if type(layer).__name__ == "Bidirectional" and is_from("keras", layer):
        return _read_bidirectional(layer)
    if getattr(layer, "go_backwards", False):
        raise ValueError(
            f"{layer.name} reads from the last time step to the first and gives its "
            "outputs in that order (go_backwards=True): convert it with "
            "go_backwards=False, take carry, ys = unroll(..., reverse=True), and turn ys "
            "round: ys[::-1]"
        )
    return _read_layer(layer)


def to_keras(recurrence: Recurrence, params: Any) -> list:
    """The weights of the Keras layer that computes the same, as `set_weights` takes them.

        layer.set_weights(to_keras(recurrence, params))

    Arrays of NumPy; for a `Bidirectional` the forward layer's and then the backward
    layer's; for a `Stack` a list of such lists, one a layer (`StackedRNNCells` take them
    chained into one). The layer must have a bias, the activations of the recurrence and,
    for a `ResetBeforeGRU`, `reset_after=False`. `from_keras` gives back exactly `params`.
    Raises ValueError for what Keras has no layer for.
    """
    if isinstance(recurrence, Stack):
        parts = zip(recurrence.cells, params, strict=True)
        return [to_keras(part, part_params) for part, part_params in parts]
    if isinstance(recurrence, Bidirectional):
        forward, backward = recurrence.parts
        return _write(forward, params[0]) + _write(backward, params[1])
    return _write(recurrence, params)


def _stack(parts: list[tuple[Recurrence, Any]]) -> tuple[Stack, tuple]:
    recurrences, params = zip(*parts, strict=True)
    check_one_dtype(params)
    return Stack(recurrences), params


def _read_list(layers: Sequence[Any]) -> tuple[Stack, tuple]:
    if not layers:
        raise ValueError("from_keras takes one layer or more, got an empty list")
    parts = [from_keras(layer) for layer in layers]
    for layer in layers[:-1]:
        if not getattr(layer, "return_sequences", True):
            raise ValueError(
                f"{layer.name} gives its last output alone (return_sequences=False), and "
                "a Stack hands on all of them"
            )
    return _stack(parts)


def _read_bidirectional(layer: Any) -> tuple[Bidirectional, tuple]:
    if layer.merge_mode not in MERGES or layer.forward_layer.go_backwards:
        raise ValueError(
            f"{layer.name} must merge by one of {', '.join(MERGES)} and have the forward "
            f"direction first, got merge_mode={layer.merge_mode!r} and "
            f"go_backwards={layer.forward_layer.go_backwards} in the forward layer"
        )
    _check_dtype(layer)
    forward, forward_params = _read_layer(layer.forward_layer)
    backward, backward_params = _read_layer(layer.backward_layer)
    merged = Bidirectional(forward, backward, MERGES[layer.merge_mode])  # pyright: ignore
    params = forward_params, backward_params
    check_one_dtype(params)
    return merged, params


def _read_layer(layer: Any) -> tuple[Recurrence, Any]:
    if type(layer).__name__ in LAYERS and is_from("keras", layer):
        if layer.stateful:
            raise ValueError(
                f"{layer.name} keeps its carry from call to call (stateful=True), a "
                "recurrence is handed it: convert it with stateful=False and give unroll "
                "the carry"
            )
        _check_dtype(layer)
        layer = layer.cell
    return _read_cell(layer)


def _read_cell(cell: Any) -> tuple[Recurrence, Any]:
    kind = type(cell).__name__
    if kind == "StackedRNNCells" and is_from("keras", cell):
        return _stack([_read_cell(one) for one in cell.cells])
    if kind not in READERS or not is_from("keras", cell):
        raise ValueError(f"from_keras takes LSTM, GRU and SimpleRNN layers, got {kind}")
    if not cell.built:
        raise ValueError(f"{cell.name} has no weights yet: build it first")
    config = cell.get_config()
    _check_dtype(cell)
    arrays = {
        name: as_array(getattr(variable, "value", variable), f"the {name} of {cell.name}")
        for name in ("kernel", "recurrent_kernel", "bias")
        if (variable := getattr(cell, name)) is not None
    }
    (input_size, _), size = matrix_shape("kernel", arrays["kernel"]), cell.units
    width = {"LSTMCell": 4, "GRUCell": 3, "SimpleRNNCell": 1}[kind] * size
    biases = (2, width) if config.get("reset_after") else (width,)
    shapes = {
        "kernel": (input_size, width),
        "recurrent_kernel": (size, width),
        "bias": biases,
    }
    check_fit(arrays, {name: shapes[name] for name in arrays})
    b = arrays.get("bias", jnp.zeros(biases, arrays["kernel"].dtype))
    return READERS[kind](config, arrays["kernel"], arrays["recurrent_kernel"], b)


def _check_dtype(layer: Any) -> None:
    if layer.compute_dtype != layer.variable_dtype:
        raise ValueError(
            f"{layer.name} computes in {layer.compute_dtype} with weights of "
            f"{layer.variable_dtype}, our cells in their parameters' dtype: convert a "
            "layer of one dtype"
        )


def _activation(config: dict, field: str) -> str:
    name = config[field]
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(
            f"the {field} {name!r} of {config['name']} is none of those of our cells: "
            f"{', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def _read_lstm(config: dict, w_x: Array, w_h: Array, b: Array) -> tuple:
    activation = _activation(config, "activation")
    cell = LSTM(
        w_x.shape[0],
        w_h.shape[0],
        gate_activation=_activation(config, "recurrent_activation"),
        candidate_activation=activation,
        output_activation=activation,
    )
    return cell, LSTMParams(w_x=w_x, w_h=w_h, b=b)


def _read_gru(config: dict, w_x: Array, w_h: Array, b: Array) -> tuple:
    cell = (GRU if config["reset_after"] else ResetBeforeGRU)(
        w_x.shape[0],
        w_h.shape[0],
        gate_activation=_activation(config, "recurrent_activation"),
        candidate_activation=_activation(config, "activation"),
    )
    w_x, w_h, b = (reorder(x, GRU_ORDER) for x in (w_x, w_h, b))
    if isinstance(cell, ResetBeforeGRU):
        return cell, ResetBeforeGRUParams(w_x=w_x, w_h=w_h, b=b)
    b, b_n = merge_biases(*b)
    return cell, GRUParams(w_x=w_x, w_h=w_h, b=b, b_n=b_n)


def _read_elman(config: dict, w_x: Array, w_h: Array, b: Array) -> tuple:
    cell = Elman(w_x.shape[0], w_h.shape[0], _activation(config, "activation"))
    return cell, ElmanParams(w_x=w_x, w_h=w_h, b=b)


READERS = {"LSTMCell": _read_lstm, "GRUCell": _read_gru, "SimpleRNNCell": _read_elman}


def _write(recurrence: Recurrence, params: Any) -> list[np.ndarray]:
    write = counterpart("Keras", recurrence, WRITERS, {}, held=OPTIONS)
    own = [getattr(recurrence, name, None) for name in ("activation", *OPTIONS)]
    for name in own:
        if name not in (None, *ACTIVATIONS.values()):
            raise ValueError(f"Keras cannot hold {recurrence}: its {name} is another")
    if None not in own[2:] and own[2] != own[3]:
        raise ValueError(
            f"Keras cannot hold {recurrence}: its LSTM has one activation for the "
            "candidate and the output"
        )
    return [np.array(x) for x in write(recurrence, params)]


def _write_as_they_are(cell: Cell, params: Any) -> list[Array]:
    return [params.w_x, params.w_h, params.b]


def _write_gru(cell: GRU, params: GRUParams) -> list[Array]:
    b = jnp.stack(split_biases(params.b, params.b_n))
    return [reorder(x, GRU_ORDER) for x in (params.w_x, params.w_h, b)]


def _write_reset_before_gru(
    cell: ResetBeforeGRU, params: ResetBeforeGRUParams
) -> list[Array]:
    return [reorder(x, GRU_ORDER) for x in params]


WRITERS = {
    LSTM: _write_as_they_are,
    GRU: _write_gru,
    ResetBeforeGRU: _write_reset_before_gru,
    Elman: _write_as_they_are,
}

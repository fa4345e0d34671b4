"""PyTorch: `nn.LSTM` (with `proj_size` too), `nn.GRU` and `nn.RNN`."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cell import Cell, Recurrence
from jaxrnn.compose import Bidirectional, Stack
from jaxrnn.convert.layout import (
    as_array,
    counterpart,
    function_of,
    merge_biases,
    split_biases,
)
from jaxrnn.elman import Elman, ElmanParams
from jaxrnn.gru import GRU, GRUParams, ResetBeforeGRU
from jaxrnn.lstm import LSTM, LSTMParams
from jaxrnn.projected import ProjectedLSTM, ProjectedLSTMParams

Weights = dict[str, Array]

DIRECTIONS = ("", "_reverse")


def from_torch(
    source: Any, *, activation: str | None = None, prefix: str = ""
) -> tuple[Recurrence, Any]:
    """A recurrence and its params from an `nn.LSTM`, `nn.GRU` or `nn.RNN`.

        recurrence, params = from_torch(torch.nn.LSTM(64, 256, num_layers=2))
        recurrence, params = from_torch("model.safetensors", prefix="encoder.lstm.")

    `source` is the module, its state dict (of tensors or arrays), or the path of a
    `.safetensors` file; `prefix` is what comes before `weight_ih_l0` in the keys. One
    layer becomes a cell, several a `Stack`, two directions a `Bidirectional` (inside
    the Stack). PyTorch's two biases become one, but for the GRU's b_hn, which is b_n;
    `bias=False` becomes a bias of zeros. Dropout between layers is not carried over,
    and time leads whatever `batch_first` was.

    The kind of cell is seen from the shapes, except the `activation` ("tanh" or "relu")
    of an `nn.RNN` given as a state dict or file. Raises ValueError where the weights
    are not those of one such module, and for pickled files, which are never read.
    """
    activation = getattr(source, "nonlinearity", activation)
    state = {
        key.removeprefix(prefix): value
        for key, value in _state_dict(source).items()
        if key.startswith(prefix)
    }
    if "weight_ih_l0" not in state:
        raise ValueError(f"no {prefix}weight_ih_l0 among the keys {sorted(state)}")
    layers = []
    while f"weight_ih_l{len(layers)}" in state:
        layers.append(_read_layer(state, len(layers), activation))
    if state:
        raise ValueError(f"keys that no recurrent layer has: {sorted(state)}")
    recurrences, params = zip(*layers, strict=True)
    if len(layers) == 1:
        return recurrences[0], params[0]
    return Stack(recurrences), params


def to_torch(recurrence: Recurrence, params: Any) -> dict[str, np.ndarray]:
    """The state dict, in PyTorch's order of keys, of the module that computes the same.

        state = to_torch(recurrence, params)
        module.load_state_dict({key: torch.from_numpy(w) for key, w in state.items()})

    A cell is one layer, a `Stack` several, a `Bidirectional` that concatenates two
    directions. The whole bias is in `bias_ih`, and `bias_hh` is zero but for the GRU's
    b_hn, so `from_torch` gives back exactly `params`. PyTorch takes no bfloat16 from
    NumPy: give it `w.astype("float32")`, which `load_state_dict` casts to the module's
    dtype. Raises ValueError for what PyTorch has no module for.
    """
    state = torch_arrays(recurrence, params)
    return {key: np.array(w, order="C") for key, w in state.items()}


def torch_arrays(recurrence: Recurrence, params: Any) -> dict[str, Array]:
    """`to_torch` with JAX arrays."""
    layers = list(_layers(recurrence, params))
    state = {
        f"{name}_l{number}{direction}": array
        for number, layer in enumerate(layers)
        for (cell, cell_params), direction in zip(layer, DIRECTIONS, strict=False)
        for name, array in _write(cell, cell_params).items()
    }
    _check_uniform([[cell for cell, _ in layer] for layer in layers])
    return state


def _state_dict(source: Any) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    if not isinstance(source, (str, os.PathLike)):
        return source.state_dict()
    if Path(source).suffix != ".safetensors":
        raise ValueError(
            f"cannot read {source}: only .safetensors files are read, because loading a "
            "pickled file (.pt, .pth, .bin) can run any code; save it as safetensors, or "
            "load it with torch.load(..., weights_only=True) and give the state dict"
        )
    from safetensors.numpy import load_file

    return load_file(source)


def _read_layer(
    state: dict[str, Any], number: int, activation: str | None
) -> tuple[Recurrence, Any]:
    """Takes one layer's weights out of `state`."""
    directions = []
    for direction in DIRECTIONS:
        suffix = f"_l{number}{direction}"
        keys = [key for key in state if key.endswith(suffix)]
        if not keys:
            continue
        for needed in ("weight_ih" + suffix, "weight_hh" + suffix):
            if needed not in keys:
                raise ValueError(f"no {needed} among the keys {sorted(keys)}")
        weights = {k.removesuffix(suffix): as_array(state.pop(k)) for k in keys}
        directions.append(_read(weights, activation))
    if len(directions) == 1:
        return directions[0]
    (forward, backward), params = zip(*directions, strict=True)
    return Bidirectional(forward, backward), params


def _read(weights: Weights, activation: str | None) -> tuple[Cell, Any]:
    w_x, w_h = weights["weight_ih"].T, weights["weight_hh"].T
    nothing = jnp.zeros(w_x.shape[1], w_x.dtype)
    b_x, b_h = weights.get("bias_ih", nothing), weights.get("bias_hh", nothing)
    input_size, (hidden_size, width) = w_x.shape[0], w_h.shape
    if "weight_hr" in weights:
        w_p = weights["weight_hr"].T
        cell = ProjectedLSTM(input_size, *w_p.shape)
        return cell, ProjectedLSTMParams(w_x=w_x, w_h=w_h, b=b_x + b_h, w_p=w_p)
    if width == 4 * hidden_size:
        params = LSTMParams(w_x=w_x, w_h=w_h, b=b_x + b_h)
        return LSTM(input_size, hidden_size), params
    if width == 3 * hidden_size:
        b, b_n = merge_biases(b_x, b_h)
        return GRU(input_size, hidden_size), GRUParams(w_x=w_x, w_h=w_h, b=b, b_n=b_n)
    if width == hidden_size and activation in ("tanh", "relu"):
        params = ElmanParams(w_x=w_x, w_h=w_h, b=b_x + b_h)
        return Elman(input_size, hidden_size, activation), params
    if width == hidden_size:
        raise ValueError(
            "these are the weights of an nn.RNN, which do not tell its nonlinearity: "
            f'give activation="tanh" or activation="relu", got {activation!r}'
        )
    raise ValueError(
        f"weight_hh of shape {(width, hidden_size)} is that of no LSTM, GRU or RNN"
    )


def _layers(recurrence: Recurrence, params: Any) -> Iterator[list[tuple[Recurrence, Any]]]:
    """Each layer as its directions."""
    parts = [(recurrence, params)]
    if isinstance(recurrence, Stack):
        parts = zip(recurrence.cells, params, strict=True)
    for part, part_params in parts:
        if not isinstance(part, Bidirectional):
            yield [(part, part_params)]
        elif part.merge == "concat":
            yield list(zip(part.parts, part_params, strict=True))
        else:
            raise ValueError(
                f"PyTorch cannot hold {part}: it always concatenates the directions"
            )


def _check_uniform(layers: list[list[Recurrence]]) -> None:
    cells = [cell for layer in layers for cell in layer]
    functions = [function_of(cell) | {"input_size": None} for cell in cells]
    directions = {len(layer) for layer in layers}
    if len(directions) > 1 or any(f != functions[0] for f in functions):
        raise ValueError(
            "one PyTorch module has the same cell, size and number of directions in "
            f"every layer, got {layers}"
        )


def _write(cell: Recurrence, params: Any) -> Weights:
    return counterpart("PyTorch", cell, WRITERS, REASONS)(cell, params)


def _write_one_bias(cell: Cell, params: Any) -> Weights:
    return {
        "weight_ih": params.w_x.T,
        "weight_hh": params.w_h.T,
        "bias_ih": params.b,
        "bias_hh": jnp.zeros_like(params.b),
    }


def _write_projected(cell: ProjectedLSTM, params: ProjectedLSTMParams) -> Weights:
    return _write_one_bias(cell, params) | {"weight_hr": params.w_p.T}


def _write_gru(cell: GRU, params: GRUParams) -> Weights:
    b_x, b_h = split_biases(params.b, params.b_n)
    return _write_one_bias(cell, params) | {"bias_ih": b_x, "bias_hh": b_h}


def _write_elman(cell: Elman, params: ElmanParams) -> Weights:
    if cell.activation not in ("tanh", "relu"):
        raise ValueError(f"PyTorch cannot hold {cell}: its nn.RNN has tanh and relu")
    return _write_one_bias(cell, params)


WRITERS = {
    LSTM: _write_one_bias,
    ProjectedLSTM: _write_projected,
    GRU: _write_gru,
    Elman: _write_elman,
}
REASONS = {ResetBeforeGRU: "its GRU resets after the product, another function"}

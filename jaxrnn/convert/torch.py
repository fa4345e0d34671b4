"""PyTorch: `nn.LSTM` (with `proj_size` too), `nn.GRU`, `nn.RNN` and their cells."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cell import Cell, Recurrence
from jaxrnn.cells.elman import Elman, ElmanParams
from jaxrnn.cells.gru import GRU, GRUParams, ResetBeforeGRU
from jaxrnn.cells.lstm import LSTM, LSTMParams
from jaxrnn.cells.projected import ProjectedLSTM, ProjectedLSTMParams
from jaxrnn.compose import Bidirectional, Stack
from jaxrnn.convert.layout import (
    as_array,
    check_fit,
    check_one_dtype,
    counterpart,
    function_of,
    matrix_shape,
    merge_biases,
    split_biases,
)
from jaxrnn.convert.torch_state import (
    DIRECTIONS,
    check_dropout,
    layout_of,
    live_module,
    state_dict_of,
)

Weights = dict[str, Array]


def from_torch(
    source: Any, *, activation: str | None = None, prefix: str = ""
) -> tuple[Recurrence, Any]:
    """A recurrence and its params from an `nn.LSTM`, `nn.GRU`, `nn.RNN` or a cell of them.

        recurrence, params = from_torch(torch.nn.LSTM(64, 256, num_layers=2))
        recurrence, params = from_torch("model.safetensors", prefix="encoder.lstm.")

    `source` is the module, its state dict (of tensors or arrays), or the path of a
    `.safetensors` file; `prefix` is what comes before `weight_ih_l0` in the keys (before
    `weight_ih` for an LSTMCell, GRUCell or RNNCell). One layer becomes a cell, several a
    `Stack`, two directions a `Bidirectional` (inside the Stack). PyTorch's two biases
    become one, but for the GRU's b_hn, which is b_n; `bias=False` becomes a bias of
    zeros. Time leads whatever `batch_first` was.

    Dropout between layers is not carried over: a module that has it converts as it
    computes after `eval()`, and is refused in training mode. State dicts and files know
    of none.

    The kind of cell is seen from the shapes, except the `activation` ("tanh" or "relu")
    of an `nn.RNN` given as a state dict or file. Raises ValueError where the weights
    are not those of one such module, and for pickled files, which are never read.
    """
    module = live_module(source, prefix)
    check_dropout(module)
    own = getattr(module, "nonlinearity", None)
    if None not in (own, activation) and own != activation:
        raise ValueError(f"the module has nonlinearity={own!r}, not {activation!r}")
    given = state_dict_of(source)
    state = {key.removeprefix(prefix): key for key in given if key.startswith(prefix)}
    names, suffixes = layout_of(state, prefix, sorted(given))
    layers = []
    for layer in suffixes:
        layers.append([])
        for suffix in layer:
            arrays = {n: as_array(given[state[n + suffix]], n + suffix) for n in names}
            layers[-1].append(_read(arrays, suffix, own or activation))
    _check_uniform([[cell for cell, _ in layer] for layer in layers])
    recurrences, params = zip(*map(_join_directions, layers), strict=True)
    check_one_dtype(params)
    return (recurrences[0], params[0]) if len(layers) == 1 else (Stack(recurrences), params)


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


def _read(weights: Weights, suffix: str, activation: str | None) -> tuple[Cell, Any]:
    """The cell of one layer and direction, whose keys end in `suffix`."""
    width, input_size = matrix_shape("weight_ih" + suffix, weights["weight_ih"])
    _, carried = matrix_shape("weight_hh" + suffix, weights["weight_hh"])
    size = carried
    shapes = {"weight_ih": (width, input_size), "weight_hh": (width, carried)}
    if "weight_hr" in weights:
        _, size = matrix_shape("weight_hr" + suffix, weights["weight_hr"])
        shapes["weight_hr"] = (carried, size)
    if "bias_ih" in weights:
        shapes |= {"bias_ih": (width,), "bias_hh": (width,)}
    check_fit(
        {name + suffix: x for name, x in weights.items()},
        {name + suffix: shape for name, shape in shapes.items()},
    )
    kind = _kind(width, size, "weight_hr" in weights, suffix)
    if activation is not None and kind is not Elman:
        raise ValueError(f"a {kind.__name__} has no activation={activation!r} to choose")
    w_x, w_h = weights["weight_ih"].T, weights["weight_hh"].T
    nothing = jnp.zeros(width, w_x.dtype)
    b_x, b_h = weights.get("bias_ih", nothing), weights.get("bias_hh", nothing)
    if kind is ProjectedLSTM:
        w_p = weights["weight_hr"].T
        cell = ProjectedLSTM(input_size, size, carried)
        return cell, ProjectedLSTMParams(w_x=w_x, w_h=w_h, b=b_x + b_h, w_p=w_p)
    if kind is GRU:
        b, b_n = merge_biases(b_x, b_h)
        return GRU(input_size, size), GRUParams(w_x=w_x, w_h=w_h, b=b, b_n=b_n)
    if kind is LSTM:
        return LSTM(input_size, size), LSTMParams(w_x=w_x, w_h=w_h, b=b_x + b_h)
    if activation not in ("tanh", "relu"):
        raise ValueError(
            "these are the weights of an nn.RNN, which do not tell its nonlinearity: "
            f'give activation="tanh" or activation="relu", got {activation!r}'
        )
    cell = Elman(input_size, size, activation)
    return cell, ElmanParams(w_x=w_x, w_h=w_h, b=b_x + b_h)


def _kind(width: int, size: int, projected: bool, suffix: str) -> type[Cell]:
    kinds = {4: LSTM, 3: GRU, 1: Elman}
    if projected:
        kinds = {4: ProjectedLSTM}
    gates, rest = divmod(width, size)
    if rest or gates not in kinds:
        raise ValueError(
            f"weight_hh{suffix} with {width} rows for {size} units is that of no LSTM, "
            "GRU or RNN"
        )
    return kinds[gates]


def _join_directions(directions: list[tuple[Cell, Any]]) -> tuple[Recurrence, Any]:
    if len(directions) == 1:
        return directions[0]
    (forward, backward), params = zip(*directions, strict=True)
    return Bidirectional(forward, backward), params


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

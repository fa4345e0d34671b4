"""cuDNN: the flat weight vector of `jax.experimental.rnn`."""

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Recurrence
from jaxrnn.cells.lstm import LSTM
from jaxrnn.compose import Bidirectional, Stack
from jaxrnn.convert.layout import as_array
from jaxrnn.convert.torch import from_torch, torch_arrays
from jaxrnn.convert.torch_state import DIRECTIONS


def from_cudnn(
    weights: Any,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
) -> tuple[Recurrence, Any]:
    """A recurrence and its params from the weights of `jax.experimental.rnn.lstm`.

        weights = rnn.init_lstm_weight(key, 64, 256, num_layers=2, bidirectional=True)
        recurrence, params = from_cudnn(weights, 64, 256, 2, bidirectional=True)

    The vector holds W_ih `[4H, D]` and W_hh `[4H, H]` of every layer and direction, one
    after the other, then all their biases b_ih and b_hh, which are summed. Layers and
    directions become what they become in `from_torch`. Raises ValueError for a vector
    of another length.
    """
    weights = as_array(weights, "the vector of weights")
    if min(input_size, hidden_size, num_layers) < 1:
        raise ValueError(
            f"input_size, hidden_size and num_layers must be 1 or more, got {input_size}, "
            f"{hidden_size} and {num_layers}"
        )
    shapes = _shapes(input_size, hidden_size, num_layers, bidirectional)
    sizes = [math.prod(shape) for shape in shapes.values()]
    if weights.shape != (sum(sizes),):
        raise ValueError(
            f"num_layers={num_layers}, bidirectional={bidirectional}, "
            f"input_size={input_size} and hidden_size={hidden_size} make {sum(sizes)} "
            f"weights in one vector, got shape {weights.shape}"
        )
    state, start = {}, 0
    for (key, shape), size in zip(shapes.items(), sizes, strict=True):
        state[key] = weights[start : start + size].reshape(shape)
        start += size
    return from_torch(state)


def to_cudnn(recurrence: Recurrence, params: Any) -> Array:
    """The flat vector that makes `jax.experimental.rnn.lstm` compute the same.

        weights = to_cudnn(recurrence, params)
        y, h, c = rnn.lstm(xs, h0, c0, weights, lengths, 64, 256, 2, 0.0, True)

    In the dtype of `params`, of which cuDNN takes float32 alone. The whole bias is in
    b_ih and b_hh is zero, so `from_cudnn` gives back exactly `params`. Raises ValueError
    for anything but an `LSTM`, a concatenating `Bidirectional` of two or a `Stack` of
    either.
    """
    layers = recurrence.cells if isinstance(recurrence, Stack) else (recurrence,)
    first = layers[0]
    bidirectional = isinstance(first, Bidirectional)
    if isinstance(first, Bidirectional):
        first = first.forward
    if type(first) is not LSTM:
        raise ValueError(
            f"cuDNN cannot hold {recurrence}: jax.experimental.rnn has plain LSTMs only"
        )
    state = torch_arrays(recurrence, params)
    shapes = _shapes(first.input_size, first.hidden_size, len(layers), bidirectional)
    return jnp.concatenate([state[key].ravel() for key in shapes])


def _shapes(
    input_size: int, hidden_size: int, num_layers: int, bidirectional: bool
) -> dict[str, tuple[int, ...]]:
    """The arrays in the vector, in order, under the keys of PyTorch's state dict."""
    directions = DIRECTIONS if bidirectional else DIRECTIONS[:1]
    gates = 4 * hidden_size
    matrices, biases = {}, {}
    for number in range(num_layers):
        inputs = len(directions) * hidden_size if number else input_size
        for direction in directions:
            suffix = f"_l{number}{direction}"
            matrices["weight_ih" + suffix] = (gates, inputs)
            matrices["weight_hh" + suffix] = (gates, hidden_size)
            biases["bias_ih" + suffix] = (gates,)
            biases["bias_hh" + suffix] = (gates,)
    return matrices | biases

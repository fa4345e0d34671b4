"""Recurrent layers that answer every vector of a sequence with a vector."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax import Array

from jaxrnn.cell import Recurrence
from jaxrnn.flax import RNN
from jaxrnn.models.layers import width_above
from jaxrnn.models.products import Dtype, Products
from jaxrnn.wrappers.noise import noise_key


class SequenceModel(nnx.Module):
    """Maps each time step of a sequence, knowing those before it, to numbers.

        y = layer_n(... layer_1(x)), with dropout after every layer
        output = y W + b

    `model(xs, carry=None, *, key=None) -> (carry, outputs)` with xs `[T, ..., D]`, outputs
    `[T, ..., output_size]`, and the carry a tuple, one entry a layer. Dropout, with a mask
    for every time step (Zaremba et al. 2014), and the noise of the layers themselves, such
    as Zoneout, happen only if a `key` is given. `reset` and `mask` `[T, ...]` are those of
    `unroll`.

    precision: the dtype in which the output layer multiplies; `jaxrnn.Precision` is that of
        the layers. Everything else is float32.

    Raises ValueError without layers, if the sizes of neighbours differ, or if `dropout`,
    the share of features dropped, is out of range.
    """

    def __init__(
        self,
        layers: Sequence[Recurrence],
        output_size: int,
        *,
        rngs: nnx.Rngs,
        dropout: float = 0.0,
        precision: Dtype = "float32",
    ):
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        width = width_above(layers, "SequenceModel")
        self.layers = nnx.List([RNN(layer, rngs=rngs) for layer in layers])
        self.dropout = nnx.Dropout(dropout)
        self.output = nnx.Linear(
            width, output_size, dot_general=Products(precision), rngs=rngs
        )

    def __call__(
        self,
        xs: Array,
        carry: Any = None,
        *,
        key: Array | None = None,
        mask: Array | None = None,
        reset: Array | None = None,
    ) -> tuple[Any, Array]:
        carries = carry if carry is not None else (None,) * len(self.layers)
        after = []
        for number, (layer, before) in enumerate(zip(self.layers, carries, strict=True)):
            layer_key = None if key is None else jax.random.fold_in(key, number)
            noise = noise_key(layer_key)
            before, xs = layer(xs, before, mask=mask, reset=reset, key=noise)
            if layer_key is not None:
                xs = self.dropout(xs, rngs=layer_key)
            after.append(before)
        return tuple(after), self.output(xs)

    def initial_carry(self, batch_shape: tuple[int, ...] = ()) -> Any:
        """The carry before the first step, one entry a layer."""
        return tuple(layer.initial_carry(batch_shape) for layer in self.layers)

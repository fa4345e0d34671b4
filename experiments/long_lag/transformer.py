"""The Transformer (Vaswani et al. 2017) in the place of a cell, for comparison."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn.models.products import Products
from jaxrnn.models.transformer import EncoderLayer, check_width, sinusoids


class _Layers(nnx.Module):
    def __init__(self, network: "TransformerNetwork", rngs: nnx.Rngs):
        width = network.width
        self.enter = nnx.Linear(network.input_size, width, rngs=rngs)
        self.layers = nnx.List(
            EncoderLayer(width, network.heads, 2 * width, 0.0, Products(), rngs)
            for _ in range(network.layers)
        )
        self.leave = nnx.Linear(width, network.output_size, rngs=rngs)

    def __call__(self, xs: Array) -> Array:
        length, width = len(xs), self.enter.out_features
        # Flax's attention wants time just before the features.
        ys = self.enter(jnp.moveaxis(xs, 0, -2))
        ys += sinusoids(jnp.arange(length), width).astype(ys.dtype)
        before = jnp.tril(jnp.ones((length, length), bool))
        for layer in self.layers:
            ys = layer(ys, before, None)
        return jnp.moveaxis(self.leave(ys), -2, 0)


@dataclass(frozen=True)
class TransformerNetwork:
    """y = layers(x W + b + position), each looking back only; z = y W_z + b_z.

    Called as a `Network` is: xs `[T, ..., D]` gives z `[T, ..., output_size]`. A layer is
    that of `jaxrnn.models.Transformer`'s encoder, its two dense layers twice as wide.
    Raises ValueError if the width is odd or no multiple of the heads.
    """

    input_size: int
    output_size: int
    width: int
    layers: int
    heads: int

    def __post_init__(self) -> None:
        check_width(self.width, self.heads)

    @cached_property
    def graph(self) -> nnx.GraphDef:
        return nnx.graphdef(nnx.eval_shape(lambda: _Layers(self, nnx.Rngs(0))))

    def init(self, key: Array) -> Any:
        return nnx.state(_Layers(self, nnx.Rngs(key)))

    def __call__(self, params: Any, xs: Array) -> Array:
        return nnx.merge(self.graph, params)(xs)

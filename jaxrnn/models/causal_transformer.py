"""A Transformer that answers every vector of a sequence, to compare recurrences with."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn.cell import across
from jaxrnn.models.products import Dtype, Products
from jaxrnn.models.transformer import EncoderLayer, check_width, sinusoids


class CausalTransformer(nnx.Module):
    """Maps each time step of a sequence, with those before it, to numbers.

        x = x W + b + position          (sines and cosines: Vaswani et al. 2017)
        layer: attention to the steps so far, then two dense layers, as `Transformer`'s
        output = x W_o + b_o

    It is called as a `SequenceModel` is, without a carry: `model(xs) -> ((), outputs)` with
    xs `[T, ..., input_size]` and outputs `[T, ..., output_size]`. Dropout happens only if a
    `key` is given. The dense layers and those of the attention multiply in `precision`.
    Raises ValueError if `width` is odd or no multiple of `heads`.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        width: int,
        *,
        layers: int,
        heads: int,
        feed_forward: int,
        rngs: nnx.Rngs,
        dropout: float = 0.0,
        precision: Dtype = "float32",
    ):
        check_width(width, heads)
        multiply = Products(precision)
        self.enter = nnx.Linear(input_size, width, dot_general=multiply, rngs=rngs)
        self.layers = nnx.List(
            EncoderLayer(width, heads, feed_forward, dropout, multiply, rngs)
            for _ in range(layers)
        )
        self.leave = nnx.Linear(width, output_size, dot_general=multiply, rngs=rngs)

    def __call__(self, xs: Array, *, key: Array | None = None) -> tuple[tuple, Array]:
        length, keys = xs.shape[0], [None] * len(self.layers)
        if key is not None:
            keys = list(jax.random.split(key, len(self.layers)))
        # Flax's attention wants time just before the features.
        ys: Any = self.enter(jnp.moveaxis(xs, 0, -2))
        waves = sinusoids(jnp.arange(length), self.enter.out_features)
        ys += across(waves.astype(ys.dtype), ys)
        before = jnp.tril(jnp.ones((length, length), bool))
        for layer, layer_key in zip(self.layers, keys, strict=True):
            ys = layer(ys, before, layer_key)
        return (), jnp.moveaxis(self.leave(ys), -2, 0)

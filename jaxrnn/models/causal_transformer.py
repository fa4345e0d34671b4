"""Transformers that answer every step of a sequence, to compare recurrences with."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn.arrays import across
from jaxrnn.models.products import Dtype, Products
from jaxrnn.models.transformer import EncoderLayer, check_width, sinusoids


class _CausalLayers(nnx.Module):
    """Layers that attend to the steps so far, as `Transformer`'s encoder attends to all."""

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        multiply: Products,
        rngs: nnx.Rngs,
    ):
        self.layers = nnx.List(
            EncoderLayer(width, heads, feed_forward, dropout, multiply, rngs)
            for _ in range(layers)
        )

    def attend(self, xs: Array, key: Array | None) -> Array:
        """xs `[T, ..., width]`, without their positions, to as many."""
        length, keys = xs.shape[0], [None] * len(self.layers)
        if key is not None:
            keys = list(jax.random.split(key, len(self.layers)))
        # Flax's attention wants time just before the features.
        ys: Any = jnp.moveaxis(xs, 0, -2)
        waves = sinusoids(jnp.arange(length), xs.shape[-1])
        ys += across(waves.astype(ys.dtype), ys)
        before = jnp.tril(jnp.ones((length, length), bool))
        for layer, layer_key in zip(self.layers, keys, strict=True):
            ys = layer(ys, before, layer_key)
        return jnp.moveaxis(ys, -2, 0)


class CausalTransformer(_CausalLayers):
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
        super().__init__(width, layers, heads, feed_forward, dropout, multiply, rngs)
        self.leave = nnx.Linear(width, output_size, dot_general=multiply, rngs=rngs)

    def __call__(self, xs: Array, *, key: Array | None = None) -> tuple[tuple, Array]:
        return (), self.leave(self.attend(self.enter(xs), key))


class TransformerLanguageModel(_CausalLayers):
    """Predicts each token from those before it in the same call.

        x = sqrt(width) embedding[token] + position
        layer: as `CausalTransformer`'s
        logits = x W + b

    It is called as a `LanguageModel` is: `model(tokens, carry=(), *, key=None) ->
    ((), logits)` with tokens `[T, ...]` int and logits `[T, ..., V]`. No carry goes from
    one call to the next: the first token of a call is predicted from itself alone, however
    long the text before it. Dropout, of the embedding and in the layers, happens only if a
    `key` is given. Raises ValueError if `width` is odd or no multiple of `heads`.
    """

    def __init__(
        self,
        vocabulary_size: int,
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
        small = jax.nn.initializers.normal(width**-0.5)
        self.embedding = nnx.Embed(vocabulary_size, width, embedding_init=small, rngs=rngs)
        super().__init__(width, layers, heads, feed_forward, dropout, multiply, rngs)
        self.output = nnx.Linear(width, vocabulary_size, dot_general=multiply, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self, tokens: Array, carry: tuple = (), *, key: Array | None = None
    ) -> tuple[tuple, Array]:
        carry, ys, _ = self.outputs(tokens, carry, key=key)
        return carry, self.logits(ys)

    def outputs(
        self, tokens: Array, carry: tuple = (), *, key: Array | None = None
    ) -> tuple[tuple, Array, Array]:
        """((), ys `[T, ..., width]`, the same): what the last layer puts out and `logits`
        takes, and that before its dropout, as `LanguageModel` has it."""
        xs = self.embedding(tokens) * self.output_size**0.5
        if key is not None:
            key, of_embedding = jax.random.split(key)
            xs = self.dropout(xs, rngs=of_embedding)
        ys = self.attend(xs, key)
        return (), ys, ys

    def logits(self, ys: Array) -> Array:
        """`[..., V]` of what the last layer put out, `[..., width]`."""
        return self.output(ys)

    @property
    def output_size(self) -> int:
        """The width of what `logits` takes."""
        return self.embedding.features

    def initial_carry(self, batch_shape: tuple[int, ...] = ()) -> tuple:
        """No carry: what `LanguageModel` has in its place."""
        return ()

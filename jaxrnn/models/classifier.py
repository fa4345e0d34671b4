"""A recurrent classifier of whole sequences."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn.cell import Recurrence
from jaxrnn.flax import RNN
from jaxrnn.models.layers import width_above
from jaxrnn.models.products import Dtype, Products


class Classifier(nnx.Module):
    """Tells which class a sequence of tokens belongs to.

        x = embedding[token]
        y = layer_n(... layer_1(x))
        logits = pooling(y) W + b

    `model(tokens, *, mask=None, key=None) -> logits` with tokens `[T, ...]` int, logits
    `[..., classes]` and the mask `[T, ...]` that of `unroll`: what follows the end of a
    sequence changes nothing. Noise happens only if a `key` is given: that of the layers
    themselves, such as VariationalDropout of their recurrent connections, and

    word_dropout: the share of tokens replaced by the token `unknown`;
    dropout: the share of features dropped before every layer, the same ones at every time
        step (Gal & Ghahramani 2016), and of the pooled features.

    layers: the recurrences, from the embedding upwards.
    pooling: `(ys, mask) -> [..., features of the last layer]`, see `jaxrnn.models.pooling`.

    precision: the dtype in which the output layer multiplies; `jaxrnn.Precision` is that of
        the layers. Everything else is float32.

    Raises ValueError without layers, if the sizes of neighbours differ, or if a share is
    out of range.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        layers: Sequence[Recurrence],
        classes: int,
        *,
        pooling: Callable[[Array, Array], Array],
        rngs: nnx.Rngs,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        unknown: int = 0,
        precision: Dtype = "float32",
    ):
        for name, share in (("dropout", dropout), ("word_dropout", word_dropout)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {share}")
        width = width_above(layers, "Classifier", embedding_size)

        # Small, so that what is learned soon outweighs what was drawn.
        self.embedding = nnx.Embed(
            vocabulary_size,
            embedding_size,
            embedding_init=jax.nn.initializers.normal(0.1),
            rngs=rngs,
        )
        self.layers = nnx.List([RNN(layer, rngs=rngs) for layer in layers])
        self.pooling = pooling
        self.output = nnx.Linear(width, classes, dot_general=Products(precision), rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        self.dropout_over_time = nnx.Dropout(dropout, broadcast_dims=(0,))
        self.word_dropout = word_dropout
        self.unknown = unknown

    def __call__(
        self, tokens: Array, *, mask: Array | None = None, key: Array | None = None
    ) -> Array:
        if mask is None:
            mask = jnp.ones(tokens.shape, bool)
        if key is None:
            return self.output(self.pooling(self.outputs(tokens, mask), mask))

        key_words, key_pooled, *keys = jax.random.split(key, 2 + len(self.layers))
        dropped = jax.random.bernoulli(key_words, self.word_dropout, tokens.shape)
        xs = self.embedding(jnp.where(dropped, self.unknown, tokens))
        for layer, layer_key in zip(self.layers, keys, strict=True):
            key_noise, key_dropout = jax.random.split(layer_key)
            xs = self.dropout_over_time(xs, rngs=key_dropout)
            _, xs = layer(xs, mask=mask, key=key_noise)
        pooled = self.pooling(xs, mask)
        return self.output(self.dropout(pooled, rngs=key_pooled))

    def outputs(self, tokens: Array, mask: Array) -> Array:
        """What the last layer says at every step, without noise: `[T, ..., F]`."""
        xs = self.embedding(tokens)
        for layer in self.layers:
            _, xs = layer(xs, mask=mask)
        return xs

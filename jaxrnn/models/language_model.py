"""A recurrent language model."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn.arrays import across
from jaxrnn.cell import Cell, Recurrence
from jaxrnn.flax import RNN
from jaxrnn.models.layers import width_above
from jaxrnn.models.products import Dtype, Products
from jaxrnn.wrappers.noise import noise_key


class LanguageModel(nnx.Module):
    """Predicts each token from those before it.

        x = embedding[token]
        y = layer_n(... layer_1(x)), with dropout after the embedding and every layer
        logits = y W + b, or norm(y) W + b

    `model(tokens, carry=None, *, key=None) -> (carry, logits)` with tokens `[T, ...]` int,
    logits `[T, ..., V]`, and the carry a tuple, one entry a layer. Dropout, and the noise
    of the layers themselves, such as WeightDrop, happen only if a `key` is given. `reset`
    and `mask` `[T, ...]` are those of `unroll`.

    layers: the recurrences, from the embedding upwards.
    dropout: the share of features dropped; or three of them, after the embedding, between
        the layers and after the last one.
    embedding_dropout: the share of the vocabulary whose embeddings are dropped whole, the
        same for all of a call (Gal & Ghahramani 2016; Merity et al. 2018); a tied output
        layer keeps them.
    dropout_over_time: "each" draws a mask for every time step (Zaremba et al. 2014),
        "shared" one for all of them (Gal & Ghahramani 2016).
    tied: the output layer's W is the transposed embedding (Press & Wolf 2017; Inan et al.
        2017), with a linear map between where their widths differ.
    norm: normalise what the last layer puts out (Ba et al. 2016), which a stack of
        `PreNorm` does not.
    precision: the dtype in which the output layer multiplies; `jaxrnn.Precision` is that of
        the layers. Everything else is float32.

    Raises ValueError without layers, if the sizes of neighbours differ, or if an option is
    out of range.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        layers: Sequence[Recurrence],
        *,
        rngs: nnx.Rngs,
        dropout: float | tuple[float, float, float] = 0.0,
        embedding_dropout: float = 0.0,
        dropout_over_time: str = "each",
        tied: bool = False,
        norm: bool = False,
        precision: Dtype = "float32",
    ):
        rates = dropout if isinstance(dropout, tuple) else (dropout,) * 3
        if not all(0 <= rate < 1 for rate in rates):
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        if not 0 <= embedding_dropout < 1:
            raise ValueError(
                f"embedding_dropout must lie in [0, 1), got {embedding_dropout}"
            )
        if dropout_over_time not in ("each", "shared"):
            raise ValueError(
                f"dropout_over_time must be 'each' or 'shared', got {dropout_over_time!r}"
            )
        width = width_above(layers, "LanguageModel", embedding_size)

        # Inputs of variance 1 for the first layer; as output weights, logits of variance 1.
        spread = embedding_size**-0.5 if tied else 1.0
        self.embedding = nnx.Embed(
            vocabulary_size,
            embedding_size,
            embedding_init=jax.nn.initializers.normal(spread),
            rngs=rngs,
        )
        self.layers = nnx.List([RNN(layer, rngs=rngs) for layer in layers])
        self.embedding_dropout = embedding_dropout
        same = (0,) if dropout_over_time == "shared" else ()
        enter, between, leave = rates
        self.dropouts = nnx.List(
            nnx.Dropout(rate, broadcast_dims=same)
            for rate in (enter, *[between] * (len(layers) - 1), leave)
        )
        self.norm = nnx.LayerNorm(width, rngs=rngs) if norm else None
        self.multiply = Products(precision)
        self.tied = tied
        if tied:
            self.narrow = (
                nnx.Linear(
                    width,
                    embedding_size,
                    use_bias=False,
                    dot_general=self.multiply,
                    rngs=rngs,
                )
                if width != embedding_size
                else None
            )
            self.bias = nnx.Param(jnp.zeros(vocabulary_size))
        else:
            self.output = nnx.Linear(
                width, vocabulary_size, dot_general=self.multiply, rngs=rngs
            )

    def __call__(
        self,
        tokens: Array,
        carry: Any = None,
        *,
        key: Array | None = None,
        mask: Array | None = None,
        reset: Array | None = None,
    ) -> tuple[Any, Array]:
        carry, ys, _ = self.outputs(tokens, carry, key=key, mask=mask, reset=reset)
        return carry, self.logits(ys)

    def outputs(
        self,
        tokens: Array,
        carry: Any = None,
        *,
        key: Array | None = None,
        mask: Array | None = None,
        reset: Array | None = None,
    ) -> tuple[Any, Array, Array]:
        """(carry, ys `[T, ..., H]`, those before their dropout): what the last layer puts
        out and `logits` takes."""
        keys = [None] * (len(self.layers) + 1)
        if key is not None:
            keys = list(jax.random.split(key, len(keys)))
        carries = carry if carry is not None else (None,) * len(self.layers)

        enter, *others = self.dropouts
        xs = _drop(enter, self._embed(tokens, keys[0]), keys[0])
        after, whole = [], xs
        for layer, dropout, before, layer_key in zip(
            self.layers, others, carries, keys[1:], strict=True
        ):
            noise = noise_key(layer_key)
            before, whole = layer(xs, before, mask=mask, reset=reset, key=noise)
            xs = _drop(dropout, whole, layer_key)
            after.append(before)
        return tuple(after), xs, whole

    @property
    def output_size(self) -> int:
        """The width of what `logits` takes."""
        return self.layers[-1].recurrence.output_size

    def initial_carry(self, batch_shape: tuple[int, ...] = ()) -> Any:
        """The carry before the first token, one entry a layer."""
        return tuple(layer.initial_carry(batch_shape) for layer in self.layers)

    def stepper(self):
        """`step(carry, tokens) -> (carry, logits)` for one time step, made for a loop.

        What the first layer computes from a token does not depend on the past, so it is
        computed here once for every token of the vocabulary and looked up in the loop.
        """
        table = self.embedding.embedding[...]
        first, *others = self.layers
        lowest = first.recurrence
        params, enter = first.arrays(), lowest.step
        if isinstance(lowest, Cell):
            params, table = lowest.prepare(params, table)
            table, enter = lowest.project(params, table), lowest.recur

        def step(carry: Any, tokens: Array) -> tuple[Any, Array]:
            x = jax.tree.map(lambda rows: rows[tokens], table)
            inner, y = enter(params, carry[0], x)
            after = [inner]
            for layer, before in zip(others, carry[1:], strict=True):
                before, y = layer.recurrence.step(layer.arrays(), before, y)
                after.append(before)
            return tuple(after), self.logits(y)

        return step

    def logits(self, ys: Array) -> Array:
        """`[..., V]` of what the last layer put out, `[..., H]`."""
        if self.norm is not None:
            ys = self.norm(ys)
        if not self.tied:
            return self.output(ys)
        if self.narrow is not None:
            ys = self.narrow(ys)
        table = self.embedding.embedding[...]
        logits = self.multiply(ys, table, (((ys.ndim - 1,), (1,)), ((), ())))
        return logits + across(self.bias[...], ys)

    def _embed(self, tokens: Array, key: Array | None) -> Array:
        xs = self.embedding(tokens)
        word_key = noise_key(key)
        if word_key is None or not self.embedding_dropout:
            return xs
        kept = 1 - self.embedding_dropout
        words = self.embedding.num_embeddings
        bits = jax.random.bernoulli(word_key, kept, (words,))
        return jnp.where(bits[tokens][..., None], xs / kept, 0)


def _drop(dropout: nnx.Dropout, xs: Array, key: Array | None) -> Array:
    return xs if key is None else dropout(xs, rngs=key)

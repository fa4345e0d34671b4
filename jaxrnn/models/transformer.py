"""The Transformer (Vaswani et al. 2017), for comparison with recurrent translators."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn.arrays import across
from jaxrnn.cell import exportable
from jaxrnn.models.products import Dtype, Products


@exportable
class KeysValues(NamedTuple):
    keys: Array  # [B, T, heads, D / heads]
    values: Array  # [B, T, heads, D / heads]


@exportable
class TransformerEncoded(NamedTuple):
    """All that the decoder knows of the source sentences."""

    memory: tuple[KeysValues, ...]  # of each decoder layer
    mask: Array  # [B, 1, 1, S]


@exportable
class TransformerState(NamedTuple):
    """What the decoder keeps of the words so far."""

    position: Array  # [B] int32  words read
    past: tuple[KeysValues, ...]  # of each decoder layer, of all positions there may be


class Transformer(nnx.Module):
    """Predicts each word of a target sentence from the source and the words before it.

        x = sqrt(D) embedding + position          (sines and cosines, as in the paper)
        encoder layer: attention among the source words, then two dense layers
        decoder layer: attention to the words before, to the source, then two dense layers
        every part f as norm(x + f(x)); logits = x W + b

    It is called as a `Translator` is: `model(source, mask, tokens)` gives the logits
    `[T, B, V]` of the word after each of `tokens` `[T, B]`, with source `[S, B]` int and
    its `mask` bool, not empty. Dropout happens only where a `key` is given. The dense
    layers and those of the attention multiply in `precision`; everything else is float32.
    Raises ValueError if `width`, D above, is odd or no multiple of `heads`.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
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
        self.source_embedding = nnx.Embed(
            source_size, width, embedding_init=small, rngs=rngs
        )
        self.target_embedding = nnx.Embed(
            target_size, width, embedding_init=small, rngs=rngs
        )
        self.encoder = nnx.List(
            EncoderLayer(width, heads, feed_forward, dropout, multiply, rngs)
            for _ in range(layers)
        )
        self.decoder = nnx.List(
            DecoderLayer(width, heads, feed_forward, dropout, multiply, rngs)
            for _ in range(layers)
        )
        self.output = _linear(width, target_size, multiply, rngs)
        self.dropout = nnx.Dropout(dropout)
        self.width = width

    def __call__(
        self, source: Array, mask: Array, tokens: Array, *, key: Array | None = None
    ) -> Array:
        keys = _split(key, 2)
        return self.decode(self.encode(source, mask, key=keys[0]), tokens, key=keys[1])

    def encode(
        self, source: Array, mask: Array, *, key: Array | None = None
    ) -> TransformerEncoded:
        """Reads source sentences `[S, B]` as far as `mask` is True."""
        keys = _split(key, len(self.encoder) + 1)
        xs = self._enter(self.source_embedding, source.T, jnp.arange(len(source)), keys[0])
        among = mask.T[:, None, None, :]
        for layer, layer_key in zip(self.encoder, keys[1:], strict=True):
            xs = layer(xs, among, layer_key)
        memory = tuple(layer.across.keys_values(xs) for layer in self.decoder)
        return TransformerEncoded(memory, among)

    def decode(
        self, encoded: TransformerEncoded, tokens: Array, *, key: Array | None = None
    ) -> Array:
        """The logits `[T, B, V]` of the word after each of `tokens` `[T, B]`."""
        keys, length = _split(key, len(self.decoder) + 1), tokens.shape[0]
        xs = self._enter(self.target_embedding, tokens.T, jnp.arange(length), keys[0])
        causal = jnp.tril(jnp.ones((length, length), bool))
        for layer, memory, layer_key in zip(
            self.decoder, encoded.memory, keys[1:], strict=True
        ):
            before = layer.before.keys_values(xs)
            xs = layer(xs, before, causal, memory, encoded.mask, layer_key)
        return jnp.swapaxes(self.output(xs), 0, 1)

    def start(self, encoded: TransformerEncoded, length: int) -> TransformerState:
        """The state before the first `step`, of `length` steps at most."""

        def empty(of_source: Array) -> Array:
            rows, _, *rest = of_source.shape
            return jnp.zeros((rows, length, *rest), of_source.dtype)

        past = jax.tree.map(empty, encoded.memory)
        return TransformerState(jnp.zeros(len(encoded.mask), jnp.int32), past)

    def step(
        self, encoded: TransformerEncoded, state: TransformerState, tokens: Array
    ) -> tuple[TransformerState, Array]:
        """One step of `decode`: tokens `[B]` to the next state and logits `[B, V]`."""
        position = state.position[:, None]
        xs = self._enter(self.target_embedding, tokens[:, None], position, None)
        places = jnp.arange(state.past[0].keys.shape[1])
        here, so_far = places == position, (places <= position)[:, None, None, :]
        past = []
        for layer, before, memory in zip(
            self.decoder, state.past, encoded.memory, strict=True
        ):
            new = layer.before.keys_values(xs)
            before = jax.tree.map(
                lambda one, all: jnp.where(here[..., None, None], one, all), new, before
            )
            xs = layer(xs, before, so_far, memory, encoded.mask, None)
            past.append(before)
        after = TransformerState(state.position + 1, tuple(past))
        return after, self.output(xs[:, 0])

    def _enter(
        self, embedding: nnx.Embed, tokens: Array, places: Array, key: Array | None
    ) -> Array:
        xs = embedding(tokens) * self.width**0.5
        waves = sinusoids(places, self.width).astype(xs.dtype)
        return _drop(self.dropout, xs + across(waves, xs), key)


class EncoderLayer(nnx.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        multiply: Products,
        rngs: nnx.Rngs,
    ):
        self.among = AttentionLayer(width, heads, dropout, multiply, rngs)
        self.dense = FeedForward(width, feed_forward, dropout, multiply, rngs)

    def __call__(self, xs: Array, mask: Array, key: Array | None) -> Array:
        keys = _split(key, 2)
        xs = self.among(xs, self.among.keys_values(xs), mask, keys[0])
        return self.dense(xs, keys[1])


class DecoderLayer(nnx.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        multiply: Products,
        rngs: nnx.Rngs,
    ):
        self.before = AttentionLayer(width, heads, dropout, multiply, rngs)
        self.across = AttentionLayer(width, heads, dropout, multiply, rngs)
        self.dense = FeedForward(width, feed_forward, dropout, multiply, rngs)

    def __call__(
        self,
        xs: Array,
        past: KeysValues,
        past_mask: Array,
        memory: KeysValues,
        memory_mask: Array,
        key: Array | None,
    ) -> Array:
        keys = _split(key, 3)
        xs = self.before(xs, past, past_mask, keys[0])
        xs = self.across(xs, memory, memory_mask, keys[1])
        return self.dense(xs, keys[2])


class AttentionLayer(nnx.Module):
    """norm(x + attention of x to keys and values), with several heads."""

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        multiply: Products,
        rngs: nnx.Rngs,
    ):
        self.attention = nnx.MultiHeadAttention(
            num_heads=heads,
            in_features=width,
            kernel_init=_XAVIER,
            qkv_dot_general=multiply,
            out_dot_general=multiply,
            rngs=rngs,
        )
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        self.rate = dropout

    def keys_values(self, xs: Array) -> KeysValues:
        """What xs `[B, T, D]` are to those who attend to them."""
        return KeysValues(self.attention.key(xs), self.attention.value(xs))

    def __call__(
        self, xs: Array, read: KeysValues, mask: Array, key: Array | None
    ) -> Array:
        keys = _split(key, 2)
        context = nnx.dot_product_attention(
            self.attention.query(xs),
            *read,
            mask=mask,
            broadcast_dropout=False,
            dropout_rng=keys[0],
            dropout_rate=self.rate,
            deterministic=key is None,
        )
        return self.norm(xs + _drop(self.dropout, self.attention.out(context), keys[1]))


class FeedForward(nnx.Module):
    """norm(x + relu(x W_1 + b_1) W_2 + b_2)."""

    def __init__(
        self,
        width: int,
        hidden: int,
        dropout: float,
        multiply: Products,
        rngs: nnx.Rngs,
    ):
        self.widen = _linear(width, hidden, multiply, rngs)
        self.narrow = _linear(hidden, width, multiply, rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, xs: Array, key: Array | None) -> Array:
        keys = _split(key, 2)
        inner = _drop(self.dropout, jax.nn.relu(self.widen(xs)), keys[0])
        return self.norm(xs + _drop(self.dropout, self.narrow(inner), keys[1]))


def check_width(width: int, heads: int) -> None:
    # As many sines as cosines tell the position.
    if heads < 1 or width % heads or width % 2:
        raise ValueError(
            "a transformer's width must be even and a multiple of its heads, got "
            f"{width} and {heads} heads"
        )


def sinusoids(places: Array, width: int) -> Array:
    """Positions `[...]` as sines and cosines `[..., width]` of falling frequency."""
    half = width // 2
    frequencies = 10_000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    places = places[..., None].astype(jnp.float32)
    angles = places * across(frequencies, places)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


_XAVIER = jax.nn.initializers.xavier_uniform()


def _linear(inputs: int, outputs: int, multiply: Products, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, kernel_init=_XAVIER, dot_general=multiply, rngs=rngs)


def _drop(dropout: nnx.Dropout, xs: Array, key: Array | None) -> Array:
    return xs if key is None else dropout(xs, rngs=key)


def _split(key: Array | None, parts: int) -> Any:
    return (None,) * parts if key is None else jax.random.split(key, parts)

"""A recurrent encoder and decoder, with attention or without."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn.cell import Recurrence, exportable
from jaxrnn.cells.mlstm import MLSTMCarry
from jaxrnn.cells.slstm import SLSTMCarry
from jaxrnn.flax import RNN
from jaxrnn.models.attention import Attending, Memory, Whole
from jaxrnn.models.products import Dtype, Products
from jaxrnn.unroll import unroll
from jaxrnn.wrappers.noise import noise_key


@exportable
class Encoded(NamedTuple):
    """All that a decoder knows of the source sentences."""

    memory: Memory | None  # None where the decoder reads none
    carry: Any  # the decoder's, before its first step


class Translator(nnx.Module):
    """Predicts each word of a target sentence from the source and the words before it.

        memory = encoder(embedding of the source)
        start = tanh(summary W + b), the summary being the encoder's last carry
        y = decoder(embedding of the target so far), reading the memory if it attends
        logits = tanh([y, embedding] W_r + b_r) W_o + b_o

    `model(source, mask, tokens)` gives the logits `[T, B, V]` of the word after each of
    `tokens` `[T, B]`, with source `[S, B]` int and its `mask` bool. `encode`, `decode`
    and `step` are its parts. Dropout, of embeddings and of what enters the output layer,
    and the noise of the recurrences themselves happen only where a `key` is given.

    The summary starts what may take any value: of an SLSTM's carry that is h alone, of an
    MLSTM's nothing, whose memories start empty.

    decoder: any recurrence (it then knows the source from its start alone: Sutskever et
        al. 2014), or an `AttendBefore` or `AttendAfter`. `Whole` attention reads the
        summary at every step (Cho et al. 2014).

    precision: the dtype in which the dense layers multiply; `jaxrnn.Precision` is that of
        the recurrences. Everything else, attention too, is float32.

    Raises ValueError if the sizes do not fit, or if the decoder neither attends nor has a
    carry that the summary may start.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        embedding_size: int,
        encoder: Recurrence,
        decoder: Recurrence,
        *,
        readout_size: int,
        rngs: nnx.Rngs,
        dropout: float = 0.0,
        precision: Dtype = "float32",
    ):
        multiply = Products(precision)
        for part in (encoder, decoder):
            if part.input_size != embedding_size:
                raise ValueError(
                    f"{part} takes {part.input_size} features, not {embedding_size}"
                )
        _check_memory(encoder, decoder)
        unit = jax.nn.initializers.normal(1.0)
        self.source_embedding = nnx.Embed(
            source_size, embedding_size, embedding_init=unit, rngs=rngs
        )
        self.target_embedding = nnx.Embed(
            target_size, embedding_size, embedding_init=unit, rngs=rngs
        )
        self.encoder = RNN(encoder, rngs=rngs)
        self.decoder = RNN(decoder, rngs=rngs)
        carry = self.decoder.initial_carry()
        free = jax.tree.leaves(_free(carry))
        if not (isinstance(decoder, Attending) or any(free)):
            raise ValueError(
                f"{decoder} would know nothing of the source: it does not attend, and no "
                "part of its carry may take any value"
            )
        self.starts = nnx.List(
            nnx.Linear(
                summary_size(encoder), leaf.shape[-1], dot_general=multiply, rngs=rngs
            )
            for leaf, starts in zip(jax.tree.leaves(carry), free, strict=True)
            if starts
        )
        self.readout = nnx.Linear(
            decoder.output_size + embedding_size,
            readout_size,
            dot_general=multiply,
            rngs=rngs,
        )
        self.output = nnx.Linear(readout_size, target_size, dot_general=multiply, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self, source: Array, mask: Array, tokens: Array, *, key: Array | None = None
    ) -> Array:
        keys = _split(key, 2)
        return self.decode(self.encode(source, mask, key=keys[0]), tokens, key=keys[1])

    def encode(self, source: Array, mask: Array, *, key: Array | None = None) -> Encoded:
        """Reads source sentences `[S, B]` as far as `mask` is True."""
        xs = self._drop(self.source_embedding(source), key)
        last, ys = self.encoder(xs, mask=mask, key=noise_key(key))
        summary = jnp.concatenate(_vectors(last, batch_axes=1), axis=-1)

        decoder = self.decoder.recurrence
        memory = None
        if isinstance(decoder, Attending):
            values, valid = jnp.swapaxes(ys, 0, 1), mask.T
            if isinstance(decoder.attention, Whole):
                values, valid = summary[:, None], jnp.ones((len(summary), 1), bool)
            params = self.decoder.arrays().attention
            memory = decoder.attention.remember(params, values, valid)
        return Encoded(memory, self._start(summary))

    def decode(
        self,
        encoded: Encoded,
        tokens: Array,
        *,
        key: Array | None = None,
        forced: Array | None = None,
    ) -> Array:
        """The logits `[T, B, V]` of the word after each of `tokens` `[T, B]`.

        forced `[T]` bool: where False, the model's own likeliest word takes the place of
        the token (scheduled sampling: Bengio et al. 2015), which puts the output layer
        into the loop over time, where noise that differs from step to step, such as
        Zoneout's, raises its ValueError. None forces all of them, outside of any loop.
        """
        noisy = self.decoder.noisy(noise_key(key), tokens.shape[0], tokens.shape[1:])
        params = self.reading(encoded, noisy)
        if forced is not None:
            return self._decode_sampled(params, encoded.carry, tokens, forced, key)
        keys = _split(key, 2)
        xs = self._drop(self.target_embedding(tokens), keys[0])
        _, ys = unroll(self.decoder.recurrence, params, xs, encoded.carry)
        return self.logits(ys, xs, keys[1])

    def start(self, encoded: Encoded, length: int) -> Any:
        """The state before the first `step`, of `length` steps at most."""
        return encoded.carry

    def step(self, encoded: Encoded, carry: Any, tokens: Array) -> tuple[Any, Array]:
        """One step of `decode`: tokens `[B]` to the next carry and logits `[B, V]`."""
        return self._step(self.reading(encoded), carry, tokens, key=None)

    def attention(self, encoded: Encoded, tokens: Array) -> Array:
        """`[T, B, S]`: where the decoder looks when it has read each of `tokens`.

        Raises ValueError if it attends to nothing.
        """
        decoder = self.decoder.recurrence
        if not isinstance(decoder, Attending):
            raise ValueError(f"{decoder} attends to nothing")
        params = self.reading(encoded)
        _, ys = unroll(decoder, params, self.target_embedding(tokens), encoded.carry)
        return decoder.weights(params, encoded.carry, ys)

    def reading(self, encoded: Encoded, noisy: Any = None) -> Any:
        """The decoder's params for one pass over time, the memory among them.

        noisy: those params with noise, which they are without if it is None.
        """
        decoder = self.decoder.recurrence
        params = self.decoder.arrays() if noisy is None else noisy
        if isinstance(decoder, Attending):
            assert encoded.memory is not None
            return decoder.reading(params, encoded.memory)
        return params

    def logits(self, ys: Array, xs: Array, key: Array | None = None) -> Array:
        """Of the decoder's outputs and inputs `[..., B, features]`."""
        read = jnp.tanh(self.readout(jnp.concatenate([ys, xs], axis=-1)))
        return self.output(self._drop(read, key))

    def _step(
        self, params: Any, carry: Any, tokens: Array, key: Array | None
    ) -> tuple[Any, Array]:
        keys = _split(key, 2)
        x = self._drop(self.target_embedding(tokens), keys[0])
        carry, y = self.decoder.recurrence.step(params, carry, x)
        return carry, self.logits(y, x, keys[1])

    def _decode_sampled(
        self, params: Any, carry: Any, tokens: Array, forced: Array, key: Array | None
    ) -> Array:
        keys = None if key is None else jax.random.split(key, len(tokens))

        def step(before: tuple[Any, Array], inputs: Any) -> tuple[tuple, Array]:
            carry, own = before
            token, is_forced, step_key = inputs
            token = jnp.where(is_forced, token, own)
            carry, logits = self._step(params, carry, token, step_key)
            own = jnp.argmax(jax.lax.stop_gradient(logits), axis=-1)
            return (carry, own.astype(token.dtype)), logits

        # The first token has no word of the model's before it.
        forced = forced.at[0].set(True)
        return jax.lax.scan(step, (carry, tokens[0]), (tokens, forced, keys))[1]

    def _start(self, summary: Array) -> Any:
        """The decoder's carry: what is free in it, each a map of the summary of its own."""
        carry = self.decoder.initial_carry(summary.shape[:1])
        maps = iter(self.starts)
        return jax.tree.map(
            lambda leaf, free: jnp.tanh(next(maps)(summary)) if free else leaf,
            carry,
            _free(carry, batch_axes=1),
        )

    def _drop(self, xs: Array, key: Array | None) -> Array:
        return xs if key is None else self.dropout(xs, rngs=key)


def summary_size(encoder: Recurrence) -> int:
    """The features of an encoder's last carry, side by side."""
    start = jax.eval_shape(
        lambda key: encoder.initial_carry(encoder.init(key)), jax.random.key(0)
    )
    return sum(leaf.shape[-1] for leaf in _vectors(start))


def _check_memory(encoder: Recurrence, decoder: Recurrence) -> None:
    if not isinstance(decoder, Attending):
        return
    size = encoder.output_size
    if isinstance(decoder.attention, Whole):
        size = summary_size(encoder)
    if decoder.attention.memory_size != size:
        raise ValueError(
            f"{decoder.attention} reads {decoder.attention.memory_size} features, the "
            f"encoder gives {size}"
        )


def _free(carry: Any, batch_axes: int = 0) -> Any:
    """Which leaves of a carry are vectors that may take any value."""

    def mark(part: Any) -> Any:
        # In units of exp(m), c and n must agree with it and with one another.
        if isinstance(part, SLSTMCarry):
            return SLSTMCarry(h=True, c=False, n=False, m=False)  # pyright: ignore
        if isinstance(part, MLSTMCarry):
            return MLSTMCarry(c=False, n=False, m=False)  # pyright: ignore
        return _is_vector(part, batch_axes)

    stabilised = (SLSTMCarry, MLSTMCarry)
    return jax.tree.map(mark, carry, is_leaf=lambda part: isinstance(part, stabilised))


def _vectors(carry: Any, batch_axes: int = 0) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(carry) if _is_vector(leaf, batch_axes)]


def _is_vector(leaf: Any, batch_axes: int) -> bool:
    return leaf.ndim == batch_axes + 1 and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _split(key: Array | None, parts: int) -> Any:
    return (None,) * parts if key is None else jax.random.split(key, parts)

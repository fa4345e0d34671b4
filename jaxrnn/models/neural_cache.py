"""A language model's memory of the words it read last."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax import Array
from jax.nn import logsumexp

from jaxrnn.cell import exportable

NO_WORD = -1


@exportable
class CacheMemory(NamedTuple):
    """What a `NeuralCache` holds: the last outputs of a model, and the word after each."""

    outputs: Array  # [window, ..., H]
    words: Array  # [window, ...] int32, NO_WORD where there is none yet


@dataclass(frozen=True)
class NeuralCache:
    """Mixes into a language model the words that came after states like this one (Grave et
    al. 2017).

        p(w) = (1 - share) p_model(w) + share p_cache(w)
        p_cache(w) ~ sum of exp(theta h_t . h_i) over the last `window` steps i < t whose
                     next word was w

    Before the first word is known, p is the model's. Raises ValueError for a window below
    1, a share outside [0, 1], or a theta that is no number.
    """

    window: int
    theta: float
    share: float  # the paper's lambda

    def __post_init__(self) -> None:
        if self.window < 1 or not 0 <= self.share <= 1 or not math.isfinite(self.theta):
            raise ValueError(
                "a cache needs a window of 1 or more, a share in [0, 1] and a finite "
                f"theta, got {self.window}, {self.share} and {self.theta}"
            )

    def start(self, output: Array) -> CacheMemory:
        """The empty memory for outputs like `output` `[..., H]`."""
        return CacheMemory(
            outputs=jnp.zeros((self.window, *output.shape), output.dtype),
            words=jnp.full((self.window, *output.shape[:-1]), NO_WORD, jnp.int32),
        )

    def nats(
        self,
        memory: CacheMemory,
        outputs: Array,
        logits: Array,
        targets: Array,
        mask: Array | None = None,
    ) -> tuple[CacheMemory, Array]:
        """The memory after these steps, and -log p `[T, ...]` of their `targets`.

        outputs `[T, ..., H]` are those of the model's last layer, logits `[T, ..., V]`
        what it made of them, targets `[T, ...]` the words that came next. What came next
        at a step that is not in `mask` `[T, ...]` is not remembered; the step takes up a
        place in the window all the same.
        """
        known = targets if mask is None else jnp.where(mask, targets, NO_WORD)
        outputs_seen = jnp.concatenate([memory.outputs, outputs])
        words_seen = jnp.concatenate([memory.words, known.astype(jnp.int32)])

        # Step t sees what stands 1 to `window` places before it, so never its own word.
        steps, places = jnp.arange(len(outputs))[:, None], jnp.arange(len(words_seen))
        near = (places[None] >= steps) & (places[None] < steps + self.window)
        like = jnp.einsum("t...h,s...h->...ts", outputs, outputs_seen)
        words = jnp.broadcast_to(jnp.moveaxis(words_seen, 0, -1)[..., None, :], like.shape)
        seen = jnp.broadcast_to(near, like.shape) & (words != NO_WORD)
        scores = jnp.where(seen, self.theta * like, -jnp.inf)
        right = words == jnp.moveaxis(targets, 0, -1)[..., None]

        some = jnp.any(seen, axis=-1)
        all_of_it = jnp.where(some, logsumexp(scores, axis=-1), 0)
        of_cache = logsumexp(jnp.where(right, scores, -jnp.inf), axis=-1) - all_of_it
        of_cache, some = jnp.moveaxis(of_cache, -1, 0), jnp.moveaxis(some, -1, 0)
        of_model = -optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        share = jnp.where(some, jnp.float32(self.share), 0)
        mixed = jnp.logaddexp(of_model + jnp.log1p(-share), of_cache + jnp.log(share))
        after = CacheMemory(outputs_seen[-self.window :], words_seen[-self.window :])
        return after, -mixed

"""Drawing tokens from a language model, one compiled loop over time."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn.models.language_model import LanguageModel


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen from the logits.

    temperature: divides the logits; 0 takes the likeliest token.
    top_k: choose among the k likeliest only (Fan et al. 2018).
    top_p: choose among the fewest tokens that together have probability p (Holtzman et
        al. 2020).

    Raises ValueError for values out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be 0 or more, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be 1 or more, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")

    def draw(self, logits: Array, uniform: Array) -> Array:
        """Tokens `[...]` from logits `[..., V]` and numbers `[...]` uniform in [0, 1)."""
        if self.temperature == 0:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = jax.lax.top_k(logits, self.top_k)[0][..., -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        if self.top_p is not None:
            logits = jnp.where(logits < _nucleus(logits, self.top_p), -jnp.inf, logits)
        # Counts the tokens whose cumulative probability stays below the number drawn.
        below = jnp.cumsum(jax.nn.softmax(logits), axis=-1)
        return jnp.sum(
            below <= uniform[..., None] * below[..., -1:], axis=-1, dtype=jnp.int32
        )


def sample(
    model: LanguageModel, prompt: Array, length: int, key: Array, how: Sampling
) -> Array:
    """Continues each column of `prompt` `[T, B]` by `length` tokens: `[length, B]` int32.

    Raises ValueError for an empty prompt or a length below 1.
    """
    if prompt.ndim != 2 or prompt.shape[0] == 0:
        raise ValueError(f"prompt must be [T, B] with T of 1 or more, got {prompt.shape}")
    if length < 1:
        raise ValueError(f"length must be 1 or more, got {length}")
    graph, params = nnx.split(model)
    return _sample(graph, params, prompt, key, length, how)


@partial(jax.jit, static_argnames=("graph", "length", "how"))
def _sample(
    graph: nnx.GraphDef, params: Any, prompt: Array, key: Array, length: int, how: Sampling
) -> Array:
    model = nnx.merge(graph, params)
    step = model.stepper()

    def next_token(before: tuple[Any, Array], uniform: Array) -> tuple[Any, Array]:
        carry, logits = before
        token = how.draw(logits, uniform)
        return step(carry, token), token

    carry, logits = model(prompt)
    # All the randomness at once: cheaper than a key a step.
    uniforms = jax.random.uniform(key, (length, prompt.shape[1]))
    return jax.lax.scan(next_token, (carry, logits[-1]), uniforms)[1]


def _nucleus(logits: Array, p: float) -> Array:
    """The smallest logit of the fewest tokens that together have probability p."""
    ordered = -jnp.sort(-logits, axis=-1)
    probabilities = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    return jnp.min(jnp.where(before < p, ordered, jnp.inf), axis=-1, keepdims=True)

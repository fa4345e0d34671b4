"""Drawing tokens from a language model, one compiled loop over time."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.core import Tracer

from jaxrnn.models.language_model import LanguageModel

NO_TOKEN = -1


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
        """Tokens `[...]` from logits `[..., V]` and numbers `[...]` uniform in [0, 1).

        A logit of -inf is never drawn. Where there is none to draw, because a logit is
        NaN or all are -inf, the token is `NO_TOKEN`, -1.
        """
        return _draw(logits, uniform, *self._numbers(), self.top_k)

    def _numbers(self) -> tuple[Any, Any]:
        """The temperature and top_p as arrays, so that one program serves all of them."""
        greatest = float(np.finfo(np.float32).max)
        temperature = np.float32(min(self.temperature, greatest))
        return temperature, None if self.top_p is None else np.float32(self.top_p)


AS_LEARNED = Sampling()


def sample(
    model: LanguageModel,
    prompt: Array,
    length: int,
    key: Array,
    sampling: Sampling = AS_LEARNED,
) -> Array:
    """Continues each column of `prompt` `[T, B]` by `length` tokens: `[length, B]` int32.

    Raises ValueError for an empty prompt, a length below 1, or a model whose logits are
    NaN; under a transformation, which cannot see that, tokens of it are `NO_TOKEN`.
    """
    shape = np.shape(prompt)
    if len(shape) != 2 or shape[0] == 0:
        raise ValueError(f"prompt must be [T, B] with T of 1 or more, got {shape}")
    if length < 1:
        raise ValueError(f"length must be 1 or more, got {length}")
    graph, params = nnx.split(model)
    written = _sample(
        graph, params, prompt, key, length, *sampling._numbers(), sampling.top_k
    )
    if not isinstance(written, Tracer) and bool(jnp.any(written == NO_TOKEN)):
        raise ValueError(
            "the model's logits are NaN or all -inf: there is no token to draw"
        )
    return written


@partial(jax.jit, static_argnames=("graph", "length", "top_k"))
def _sample(
    graph: nnx.GraphDef,
    params: Any,
    prompt: Array,
    key: Array,
    length: int,
    temperature: Array,
    top_p: Array | None,
    top_k: int | None,
) -> Array:
    model = nnx.merge(graph, params)
    step = model.stepper()

    def next_token(before: tuple[Any, Array], uniform: Array) -> tuple[Any, Array]:
        carry, logits = before
        token = _draw(logits, uniform, temperature, top_p, top_k)
        return step(carry, token), token

    carry, logits = model(prompt)
    # All the randomness at once: cheaper than a key a step.
    uniforms = jax.random.uniform(key, (length, prompt.shape[1]), jnp.float32)
    return jax.lax.scan(next_token, (carry, logits[-1]), uniforms)[1]


def _draw(
    logits: Array,
    uniform: Array,
    temperature: Array,
    top_p: Array | None,
    top_k: int | None,
) -> Array:
    wide = jnp.float64 if logits.dtype == jnp.float64 else jnp.float32
    logits = logits.astype(wide)
    best = jnp.max(logits, axis=-1, keepdims=True)
    # What divides the logits is neither 0 nor makes 0 times infinity of what overflows.
    heat = jnp.maximum(temperature, jnp.finfo(jnp.float32).tiny).astype(wide)
    behind = jnp.maximum(logits - best, jnp.finfo(wide).min) / heat
    scaled = jnp.where(logits == best, 0, jnp.where(logits > -jnp.inf, behind, -jnp.inf))
    names = None
    if top_k is not None or top_p is not None:
        size = logits.shape[-1]
        scaled, names = jax.lax.top_k(scaled, min(top_k or size, size))
    weights = jnp.exp(scaled)
    if top_p is not None:
        weights = _nucleus(weights, top_p.astype(wide))
    token = _place(weights, uniform.astype(wide))
    if names is not None:
        token = jnp.take_along_axis(names, token[..., None], axis=-1)[..., 0]
    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    token = jnp.where(temperature > 0, token, greedy)
    return jnp.where(best[..., 0] > -jnp.inf, token, NO_TOKEN)  # not of NaN either


def _nucleus(weights: Array, p: Array) -> Array:
    """Of falling weights `[..., V]`, the fewest that make up the share p; 0 for others."""
    before = jnp.cumsum(weights, axis=-1) - weights
    kept = before < p * jnp.sum(weights, axis=-1, keepdims=True)
    return jnp.where(kept.at[..., 0].set(True), weights, 0)


def _place(weights: Array, uniform: Array) -> Array:
    """Where the running sum of the weights `[..., V]` passes the share `uniform` of all;
    never at a weight of 0, whatever is rounded on the way."""
    passed = jnp.where(weights > 0, jnp.cumsum(weights, axis=-1), 0)
    below_one = jnp.minimum(uniform, 1 - jnp.finfo(uniform.dtype).epsneg)
    aim = below_one[..., None] * jnp.max(passed, axis=-1, keepdims=True)
    return jnp.argmax(passed > aim, axis=-1).astype(jnp.int32)

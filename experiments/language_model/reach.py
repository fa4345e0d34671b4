"""How far back a language model looks."""

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn import Stack
from jaxrnn.data.shards import Tokens
from jaxrnn.diagnostics import gradient_by_lag
from jaxrnn.models import LanguageModel


def passages(tokens: np.ndarray | Tokens, length: int, lanes: int) -> Array:
    """`[length + 1, lanes]`, evenly spread; raises ValueError if the text is shorter, or
    there is nothing to look at."""
    if min(length, lanes) < 1:
        raise ValueError(f"tokens and lanes must be 1 or more, got {length} and {lanes}")
    if len(tokens) <= length:
        raise ValueError(f"tokens must be {len(tokens) - 1} or fewer, got {length}")
    starts = np.linspace(0, len(tokens) - length - 1, lanes).astype(int)
    return jnp.asarray(tokens[starts + np.arange(length + 1)[:, None]], jnp.int32)


def reach(model: LanguageModel, read: Array) -> Array:
    """`[T, N]` by lag: the gradient of the nats of the last token by each state before."""
    layers = Stack(tuple(layer.recurrence for layer in model.layers))
    params = tuple(layer.arrays() for layer in model.layers)

    def nats(ys: Array) -> Array:
        logits = model.logits(ys[-1])
        return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, read[-1]))

    return gradient_by_lag(layers, params, model.embedding(read[:-1]), nats)

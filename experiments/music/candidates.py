"""Several models trained side by side, each with a learning rate of its own.

Their parameters and optimiser states are one tree whose leaves have a leading axis
`[C, ...]`, so everything that takes a TrainState takes all of them at once.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn.training.optimiser import Optimiser


def draw_factors(candidates: int, spread: float, seed: int) -> np.ndarray:
    """`[C]` numbers exp(uniform in +- spread), what each learning rate is multiplied by.

    Raises ValueError for fewer than one candidate or a negative spread.
    """
    if candidates < 1 or spread < 0:
        raise ValueError(
            "candidates must be 1 or more and their spread of learning rates 0 or more, "
            f"got {candidates} and {spread}"
        )
    draw = np.random.Generator(np.random.Philox(key=[seed, 1]))
    return np.exp(draw.uniform(-spread, spread, candidates)).astype(np.float32)


def for_each(optimiser: Optimiser, factors: np.ndarray) -> Optimiser:
    """`optimiser` for every candidate by itself, its updates times the factor: a norm of
    the gradient is clipped candidate by candidate.

    The gradient is that of the candidates' mean loss.
    """
    transform, scales = optimiser.transform, jnp.asarray(factors)

    def init(params: Any) -> Any:
        return jax.vmap(transform.init)(params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        gradients = optax.tree.scale(len(factors), updates)
        updates, state = jax.vmap(transform.update)(gradients, state, params)
        return jax.vmap(optax.tree.scale)(scales, updates), state

    return optimiser._replace(transform=optax.GradientTransformation(init, update))


def add_noise(params: Any, key: Array, deviation: float) -> Any:
    """Gaussian noise on every parameter (weight noise: Graves 2011)."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        leaf + deviation * jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    )

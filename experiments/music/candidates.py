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

from jaxrnn.strategies.select import select
from jaxrnn.training.guard import all_finite
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

    The gradient is that of the candidates' mean loss. A candidate whose gradient is zero
    throughout, as `guarded` makes it, or whose update is not finite, stays as it is, its
    optimiser too; the others go on.
    """
    transform, scales = optimiser.transform, jnp.asarray(factors)

    def init(params: Any) -> Any:
        return jax.vmap(transform.init)(params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        gradients = optax.tree.scale(len(factors), updates)
        updates, after = jax.vmap(transform.update)(gradients, state, params)
        updates = jax.vmap(optax.tree.scale)(scales, updates)
        moves = jax.vmap(any_nonzero)(gradients) & jax.vmap(all_finite)(updates)
        stays = jax.tree.map(jnp.zeros_like, updates), state
        return select(moves, (updates, after), stays)

    return optimiser._replace(transform=optax.GradientTransformation(init, update))


def any_nonzero(tree: Any) -> Array:
    """[] bool: whether any number of the tree is not zero."""
    return jnp.any(jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(tree)]))


@jax.custom_vjp
def guarded(params: Any) -> Any:
    """`params`, whose gradient is zero for a candidate for which it is not finite."""
    return params


def _guarded_backward(_: None, gradients: Any) -> tuple[Any]:
    nothing = jax.tree.map(jnp.zeros_like, gradients)
    return (select(jax.vmap(all_finite)(gradients), gradients, nothing),)


guarded.defvjp(lambda params: (params, None), _guarded_backward)


def mean_of_finite(losses: Array) -> Array:
    """The mean of those of `[C]` losses that are finite, NaN if none is.

    Each of them has the weight 1 / C in its gradient, whatever the others are.
    """
    finite = jnp.isfinite(losses)
    mean = jnp.sum(losses, where=finite) / jnp.sum(finite, dtype=losses.dtype)
    return jnp.mean(jnp.where(finite, losses, jax.lax.stop_gradient(mean)))


def best_of(losses: np.ndarray) -> int:
    """The candidate of the lowest of `[C]` losses, those that are not finite left out."""
    return int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))


def left_out(losses: np.ndarray, rates: np.ndarray) -> dict[str, float]:
    """The learning rate of each candidate whose loss is not finite, by its number."""
    broken = np.flatnonzero(~np.isfinite(losses))
    return {f"left_out_{number}": float(rates[number]) for number in broken}


def add_noise(params: Any, key: Array, deviation: float) -> Any:
    """Gaussian noise on every parameter (weight noise: Graves 2011)."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        leaf + deviation * jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    )

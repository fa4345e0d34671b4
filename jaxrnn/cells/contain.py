"""Keeping what is not finite to the steps that see it, in a block of time at once.

Zero times NaN is NaN: in a sum over time, where a weight of zero stands for a step that is
not seen, it would reach every step.
"""

import jax.numpy as jnp
from jax import Array

from jaxrnn.strategies.select import select


def contain(log_weight: Array, *values: Array) -> tuple[Array, ...]:
    """Zeros for values that are not finite, and NaN for the log weight they have.

    log_weight `[...]`; values `[..., *]`, each with axes of its own.
    """
    sound = jnp.isfinite(log_weight)
    for value in values:
        features = tuple(range(sound.ndim, value.ndim))
        sound &= jnp.all(jnp.isfinite(value), axis=features)
    log_weight, *contained = (
        select(sound, a, jnp.zeros_like(a)) for a in (log_weight, *values)
    )
    # NaN only where there is one, or `jax_debug_nans` would see it in sound numbers too.
    infinite = jnp.where(sound, jnp.zeros_like(log_weight), jnp.inf)
    return log_weight + (infinite - infinite), *contained

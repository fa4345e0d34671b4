"""Noise that regularises a recurrence: drawn outside the loop, held by the params.

    noisy = recurrence.with_noise(params, key, length, batch_shape)
    carry, ys = jaxrnn.unroll(recurrence, noisy, xs)

Params without noise, as `init` gives them, are those of evaluation. Inside a loss the
gradient is that of the params without noise. `jaxrnn.flax.RNN` and the models draw it
where they are called with a key.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.constants import check_numbers


def noise_key(key: Array | None) -> Array | None:
    """The key of a recurrence's noise, apart from all else that is drawn from `key`."""
    # Folded in with the greatest number that a key takes: layers and masks count from 0
    # up, so that none of them draws from this key.
    return None if key is None else jax.random.fold_in(key, 2**32 - 1)


def drop(key: Array, rate: float, values: Array) -> Array:
    """Zero with probability `rate`, else divided by 1 - rate."""
    kept = jax.random.bernoulli(key, 1 - rate, values.shape)
    return jnp.where(kept, values / (1 - rate), jnp.zeros_like(values))


def check_rates(recurrence: Any) -> None:
    """Makes the field `rate`, one number or several, plain floats in [0, 1)."""
    check_numbers(recurrence, "rate")
    rates = recurrence.rate
    for rate in rates if isinstance(rates, tuple) else (rates,):
        if not 0 <= rate < 1:
            name = type(recurrence).__name__
            raise ValueError(f"{name} needs rates in [0, 1), got {rate!r}")

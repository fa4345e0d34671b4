"""Averages of the parameters over the steps."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def moved(averages: Any, params: Any, decay: float, n: Array) -> Any:
    """The averages after update `n`, [] int32 from 1 on.

    averages + (1 - decay) / (1 - decay^n) (params - averages), which is `params` for n = 1.
    """
    rate = (1 - decay) / -jnp.expm1(n.astype(jnp.float32) * math.log(decay))

    def move(average: Array, param: Array) -> Array:
        share = rate.astype(average.dtype)
        return share * param + (1 - share) * average

    return jax.tree.map(move, averages, params)

"""Recomputation: keep one carry every k steps instead of what every step leaves."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def in_segments(
    run: Callable[..., tuple[Any, Array]],
    every: int,
    carry: Any,
    per_step: Any,
    reverse: bool,
) -> tuple[Any, Array]:
    """`run(carry, per_step) -> (carry, ys)` over segments of `every` steps.

    `per_step` is a tree of arrays `[T, ...]`. What the derivative of a segment needs is
    computed again on the way back, so memory is O(T / every + every) instead of O(T).
    """
    run = jax.checkpoint(run)
    length = jax.tree.leaves(per_step)[0].shape[0]
    whole = length // every * every

    def segments(carry: Any) -> tuple[Any, Array]:
        cut = jax.tree.map(
            lambda a: a[:whole].reshape(whole // every, every, *a.shape[1:]), per_step
        )
        carry, ys = jax.lax.scan(run, carry, cut, reverse=reverse)
        return carry, ys.reshape(whole, *ys.shape[2:])

    def remainder(carry: Any) -> tuple[Any, Array]:
        return run(carry, jax.tree.map(lambda a: a[whole:], per_step))

    if whole == length:
        return segments(carry)
    if whole == 0:
        return remainder(carry)
    if reverse:
        carry, last = remainder(carry)
        carry, first = segments(carry)
    else:
        carry, first = segments(carry)
        carry, last = remainder(carry)
    return carry, jnp.concatenate([first, last])

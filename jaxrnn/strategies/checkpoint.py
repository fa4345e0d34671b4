"""Recomputation: keep one carry every k steps instead of what every step leaves."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import cast_like, widen


def in_segments(
    run: Callable[[Any, Any, Any], tuple[Any, Array]],
    every: int,
    shared: Any,
    carry: Any,
    per_step: Any,
    reverse: bool,
) -> tuple[Any, Array]:
    """`run(shared, carry, per_step) -> (carry, ys)` over segments of `every` steps.

    All segments share `shared`, whose gradient adds up in float32 or wider. `per_step` is
    (inputs, mask, reset), of arrays `[T, ...]`. What the derivative of a segment needs is
    computed again on the way back, so memory is O(T / every + every) instead of O(T).
    """
    steps = jax.tree.leaves(per_step)[0].shape[0]
    if not isinstance(steps, int):  # exported for any length
        per_step = _padded(per_step, every, steps)
    wide = widen(shared)
    run_segment = jax.checkpoint(lambda *args: run(cast_like(wide, shared), *args))
    length = jax.tree.leaves(per_step)[0].shape[0]
    whole = length // every * every

    def segments(carry: Any) -> tuple[Any, Array]:
        cut = jax.tree.map(
            lambda a: a[:whole].reshape(whole // every, every, *a.shape[1:]), per_step
        )
        carry, ys = jax.lax.scan(run_segment, carry, cut, reverse=reverse)
        return carry, ys.reshape(whole, *ys.shape[2:])

    def remainder(carry: Any) -> tuple[Any, Array]:
        return run_segment(carry, jax.tree.map(lambda a: a[whole:], per_step))

    if whole == length:
        carry, ys = segments(carry)
        return carry, ys[:steps]
    if whole == 0:
        return remainder(carry)
    if reverse:
        carry, last = remainder(carry)
        carry, first = segments(carry)
    else:
        carry, first = segments(carry)
        carry, last = remainder(carry)
    return carry, jnp.concatenate([first, last])


def _padded(per_step: Any, every: int, steps: Any) -> Any:
    """`per_step` with masked steps after the last one, up to whole segments."""

    def pad(a: Array) -> Array:
        return jnp.pad(a, [(0, -steps % every)] + [(0, 0)] * (a.ndim - 1))

    inputs, mask, reset = per_step
    mask = jnp.ones(steps, bool) if mask is None else mask
    return jax.tree.map(pad, (inputs, mask, reset))

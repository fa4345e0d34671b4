"""Recomputation: keep one carry every k steps instead of what every step leaves."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.arrays import cast_like, widen
from jaxrnn.strategies.call import Call


def in_segments(
    run: Callable[[Call], tuple[Any, Any]], call: Call, every: int
) -> tuple[Any, Any]:
    """`run(call) -> (carry, ys)` over segments of `every` steps; ys any tree `[T, ...]`.

    All segments share params and start, whose gradient adds up in float32 or wider. What
    the derivative of a segment needs is computed again on the way back, so memory is
    O(T / every + every) instead of O(T).
    """
    steps = call.length
    per_step = call.per_step
    if not isinstance(steps, int):  # exported for any length
        per_step = _padded(per_step, every, steps)
    shared = call.params, call.start
    wide = widen(shared)

    @jax.checkpoint
    def run_segment(carry: Any, per_step: Any) -> tuple[Any, Any]:
        params, start = cast_like(wide, shared)
        return run(call.replace(params=params, start=start, carry=carry, **per_step))

    length = jax.tree.leaves(per_step)[0].shape[0]
    whole = length // every * every

    def segments(carry: Any) -> tuple[Any, Any]:
        cut = jax.tree.map(
            lambda a: a[:whole].reshape(whole // every, every, *a.shape[1:]), per_step
        )
        carry, ys = jax.lax.scan(run_segment, carry, cut, reverse=call.reverse)
        return carry, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), ys)

    def remainder(carry: Any) -> tuple[Any, Any]:
        return run_segment(carry, jax.tree.map(lambda a: a[whole:], per_step))

    if whole == length:
        carry, ys = segments(call.carry)
        return carry, jax.tree.map(lambda a: a[:steps], ys)
    if whole == 0:
        return remainder(call.carry)
    if call.reverse:
        carry, last = remainder(call.carry)
        carry, first = segments(carry)
    else:
        carry, first = segments(call.carry)
        carry, last = remainder(carry)
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), first, last)


def _padded(per_step: dict[str, Any], every: int, steps: Any) -> dict[str, Any]:
    """`per_step` with masked steps after the last one, up to whole segments."""
    missing = -(-steps // every) * every - steps  # so written, JAX knows the sum's divisor

    def pad(a: Array) -> Array:
        return jnp.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1))

    mask = per_step["mask"]
    mask = jnp.ones(steps, bool) if mask is None else mask
    return jax.tree.map(pad, per_step | {"mask": mask})

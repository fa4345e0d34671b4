"""Linear recurrences in parallel over time, by `jax.lax.associative_scan`.

A step is the function h -> a h + b. Two steps in sequence are one such function again,

    h -> a_2 (a_1 h + b_1) + b_2 = (a_2 a_1) h + (a_2 b_1 + b_2)

and composition is associative, so all T of them compose in O(log T) rounds (Blelloch 1990).
A masked step is the identity: a = 1, b = 0. At a reset nothing from before comes through:
the composition drops its first function there instead of multiplying it by zero, which
would let a NaN pass (Martin & Cundy 2018 on such scans for recurrent networks; Lu et al.
2023 on resets in them).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.arrays import cast_like
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.core import core_call
from jaxrnn.strategies.products import for_all_steps
from jaxrnn.strategies.select import select
from jaxrnn.strategies.step import project
from jaxrnn.strategies.strategy import Strategy


@dataclass(frozen=True)
class Associative(Strategy):
    """All steps of a linear recurrence, composed pair by pair."""

    why = "its steps compose, so all of time takes log2(T) parallel rounds"

    def refusal(self, call: Call, platform: str) -> str | None:
        if not call.cell.core.linear:
            return "its carry does not enter as a * carry + b"
        if not isinstance(call.length, int):
            return "jax.lax.associative_scan takes no length that is still unknown"
        return None

    def drawback(self, call: Call, platform: str) -> str | None:
        return "on a CPU one loop over time is faster" if platform == "cpu" else None

    def over_time(self, call: Call) -> tuple[Any, Array]:
        call, outer = core_call(call)
        cell: Any = call.cell
        a, b, rest = cell.affine(call.params, project(call))
        a = select(call.mask, a, jnp.ones_like(a))
        b = select(call.mask, b, jnp.zeros_like(b))
        if call.reset is not None:
            b = select(call.reset, a * cell.unpack(call.start)[None] + b, b)
        h = compose(a, b, cell.unpack(call.carry), call.reset, call.reverse)
        carries = cell.pack(h, like=call.carry)
        narrow = cast_like(carries, call.start)
        ys = for_all_steps(cell.read)(call.params, narrow, rest)
        last = jax.tree.map(lambda h: h[0 if call.reverse else -1], carries)
        return outer(last, select(call.mask, ys, jnp.zeros_like(ys)))


def compose(a: Array, b: Array, h: Array, fresh: Array | None, reverse: bool) -> Array:
    """h after each step of h' = a h + b, or of h' = b where `fresh`.

    a, b `[T, ..., N]`, h before the first step `[..., N]`, fresh `[T, ...]` bool.
    """
    first = -1 if reverse else 0
    if fresh is not None:
        h = select(fresh[first], jnp.zeros_like(h), h)
    b = b.at[first].add(a[first] * h)
    steps = a, b, None if fresh is None else fresh[..., None]
    return jax.lax.associative_scan(_after, steps, reverse=reverse)[1]


def _after(earlier, later):
    a_1, b_1, fresh_1 = earlier
    a_2, b_2, fresh_2 = later
    through = a_2 * b_1 + b_2
    if fresh_2 is None:
        return a_2 * a_1, through, None
    return a_2 * a_1, jnp.where(fresh_2, b_2, through), fresh_1 | fresh_2

"""Linear recurrences in parallel over time, by `jax.lax.associative_scan`.

A step is the function h -> a h + b. Two steps in sequence are one such function again,

    h -> a_2 (a_1 h + b_1) + b_2 = (a_2 a_1) h + (a_2 b_1 + b_2)

and composition is associative, so all T of them compose in O(log T) rounds (Blelloch 1990).
A masked step is the identity: a = 1, b = 0. At a reset nothing from before comes through:
the composition drops its first function there instead of multiplying it by zero, which
would let a NaN pass (Martin & Cundy 2018 on such scans for recurrent networks; Lu et al.
2023 on resets in them).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell
from jaxrnn.linear import LinearCell, narrow
from jaxrnn.strategies.select import select
from jaxrnn.strategies.step import for_all_steps, project

WHY = "its steps compose, so all of time takes log2(T) parallel rounds"


def refusal(cell: Cell) -> str | None:
    if not isinstance(cell, LinearCell):
        return "its carry does not enter as a * carry + b"
    return None


def over_time(
    cell: LinearCell,
    params: Any,
    start: Any,
    carry: Any,
    xs: Array,
    mask: Array | None,
    reset: Array | None,
    reverse: bool,
) -> tuple[Any, Array]:
    a, b, rest = project(cell, params, xs)
    a = select(mask, a, jnp.ones_like(a))
    b = select(mask, b, jnp.zeros_like(b))
    first = -1 if reverse else 0
    h = cell.unpack(carry)
    if reset is not None:
        b = select(reset, a * cell.unpack(start) + b, b)
        h = select(reset[first], jnp.zeros_like(h), h)
    b = b.at[first].add(a[first] * h)

    fresh = None if reset is None else reset[..., None]
    _, h, _ = jax.lax.associative_scan(_compose, (a, b, fresh), reverse=reverse)
    carries = cell.pack(h, like=carry)
    ys = cell.read(for_all_steps(params), narrow(carries, params), rest)
    last = jax.tree.map(lambda h: h[0 if reverse else -1], carries)
    return last, select(mask, ys, jnp.zeros_like(ys))


def _compose(earlier, later):
    a_1, b_1, fresh_1 = earlier
    a_2, b_2, fresh_2 = later
    through = a_2 * b_1 + b_2
    if fresh_2 is None:
        return a_2 * a_1, through, None
    return a_2 * a_1, jnp.where(fresh_2, b_2, through), fresh_1 | fresh_2

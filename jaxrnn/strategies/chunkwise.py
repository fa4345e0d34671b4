"""Blocks of time, each in parallel, one after the other.

For a cell whose recurrence has a parallel form that costs the square of the length, as
attention does: within a block of L steps that form, between blocks the carry. Products
of matrices replace L small updates, and memory is O(T / L) carries and one block's
L x L weights, since a block is computed again on the way back.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell
from jaxrnn.strategies.checkpoint import in_segments
from jaxrnn.strategies.select import select
from jaxrnn.strategies.step import project

WHY = "its parallel form takes a block of time in a few products"

LENGTH = 64  # of a block


@runtime_checkable
class Chunkwise(Protocol):
    """What the strategy asks of a cell."""

    def widen(self, carry: Any) -> Any: ...

    def project(self, params: Any, x: Any) -> Any: ...

    def chunk(
        self, params: Any, carry: Any, us: Any, mask: Array | None, reset: Array | None
    ) -> tuple[Any, Array]:
        """`recur` for the steps of one block at once, to the last carry and all ys.

        us `[L, ...]` are outputs of `project`. A masked step holds the carry, whatever
        its y; the carry becomes the initial carry before a step that is reset.
        """
        ...


def refusal(cell: Cell) -> str | None:
    if not isinstance(cell, Chunkwise):
        return "it has no parallel form for a block of time"
    return None


def over_time(
    cell: Chunkwise,
    params: Any,
    start: Any,
    carry: Any,
    xs: Array,
    mask: Array | None,
    reset: Array | None,
    reverse: bool,
) -> tuple[Any, Array]:
    def run(shared: Any, carry: Any, per_step: Any) -> tuple[Any, Array]:
        params, start = shared
        if reverse:
            per_step = jax.tree.map(lambda a: jnp.flip(a, 0), per_step)
        us, mask, reset = per_step
        if reset is not None:
            carry = select(reset[0], cell.widen(start), carry)
        carry, ys = cell.chunk(params, carry, us, mask, reset)
        return carry, jnp.flip(ys, 0) if reverse else ys

    us = project(cell, params, xs)
    carry, ys = in_segments(run, LENGTH, (params, start), carry, (us, mask, reset), reverse)
    return carry, select(mask, ys, jnp.zeros_like(ys))

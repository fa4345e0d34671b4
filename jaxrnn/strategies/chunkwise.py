"""Blocks of time, each in parallel, one after the other.

For a cell whose recurrence has a parallel form that costs the square of the length, as
attention does: within a block of L steps that form, between blocks the carry. Products
of matrices replace L small updates, and memory is O(T / L) carries and one block's
L x L weights, since a block is computed again on the way back.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.strategies.call import Call
from jaxrnn.strategies.checkpoint import in_segments
from jaxrnn.strategies.core import core_call
from jaxrnn.strategies.select import select
from jaxrnn.strategies.step import project
from jaxrnn.strategies.strategy import Strategy


@dataclass(frozen=True)
class Chunkwise(Strategy):
    """Blocks of `length` steps, by the cell's `chunk`. Raises ValueError if below 1."""

    length: int = 64

    why = "its parallel form takes a block of time in a few products"

    def __post_init__(self) -> None:
        given = self.length
        if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
            raise ValueError(f"Chunkwise needs a length of 1 or more, got {given!r}")
        object.__setattr__(self, "length", int(given))

    def refusal(self, call: Call, platform: str) -> str | None:
        if not call.cell.core.chunks:
            return "it has no parallel form for a block of time"
        return None

    def over_time(self, call: Call) -> tuple[Any, Array]:
        call, outer = core_call(call)
        call = call.replace(inputs=project(call))
        carry, ys = in_segments(_block, call, self.length)
        return outer(carry, select(call.mask, ys, jnp.zeros_like(ys)))


def _block(call: Call) -> tuple[Any, Array]:
    steps = call.inputs, call.mask, call.reset
    if call.reverse:
        steps = jax.tree.map(lambda a: jnp.flip(a, 0), steps)
    carry, ys = call.cell.chunk(call.params, call.start, call.carry, *steps)
    return carry, jnp.flip(ys, 0) if call.reverse else ys

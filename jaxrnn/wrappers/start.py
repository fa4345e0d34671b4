"""A start of sequences that is learned."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Cell, exportable
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.core import Outer
from jaxrnn.wrappers.wrapper import Wrapper


@exportable
class LearnedStartParams(NamedTuple):
    cell: Any
    start: Any  # the first carry, without batch axes; None in place of what counts steps


@dataclass(frozen=True)
class LearnedStart(Wrapper):
    """A cell whose initial carry is among its params.

        carry_0 = start                       and again at each reset

    All rows of a batch share `start`, which is the cell's own initial carry when `init`
    gives it; what counts steps (a Slower's age) stays the cell's own. Equations and shapes
    are the cell's. Raises ValueError if `cell` is not a cell.
    """

    cell: Cell

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> LearnedStartParams:
        params = self.cell.init(key, dtype)
        start = jax.tree.map(
            lambda leaf: leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else None,
            self.cell.initial_carry(params),
        )
        return LearnedStartParams(params, start)

    def initial_carry(
        self, params: LearnedStartParams, batch_shape: tuple[int, ...] = ()
    ) -> Any:
        def learned(own: Array, start: Array | None) -> Array:
            return own if start is None else jnp.broadcast_to(start, own.shape)

        own = self.cell.initial_carry(params.cell, batch_shape)
        return jax.tree.map(learned, own, params.start)

    @property
    def linear(self) -> bool:
        return self.cell.linear

    @property
    def core(self) -> Cell:
        return self.cell.core

    def inner_call(self, call: Call) -> tuple[Call, Outer]:
        """The start is in the call already."""
        inner = call.replace(cell=self.cell, params=call.params.cell)
        return inner, lambda carry, ys: (carry, ys)

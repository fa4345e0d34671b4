"""A start of sequences that is learned."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Cell
from jaxrnn.wrapper import Wrapper


class LearnedStartParams(NamedTuple):
    cell: Any
    start: Any  # the carry before the first step, without batch axes


@dataclass(frozen=True)
class LearnedStart(Wrapper):
    """A cell whose initial carry is among its params.

        carry_0 = start                       and again at each reset

    All rows of a batch share `start`, which is the cell's own initial carry when `init`
    gives it. Equations and shapes are the cell's. Raises ValueError if `cell` is not a
    cell.
    """

    cell: Cell

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> LearnedStartParams:
        params = self.cell.init(key, dtype)
        return LearnedStartParams(params, self.cell.initial_carry(params))

    def initial_carry(
        self, params: LearnedStartParams, batch_shape: tuple[int, ...] = ()
    ) -> Any:
        return jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), params.start
        )

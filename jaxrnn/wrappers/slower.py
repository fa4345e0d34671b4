"""Several rates of time in one network."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Cell, check_size, exportable
from jaxrnn.strategies.select import select
from jaxrnn.wrappers.wrapper import Wrapper


@exportable
class SlowerParams(NamedTuple):
    cell: Any


@exportable
class SlowerCarry(NamedTuple):
    cell: Any
    y: Array  # [..., output_size]  what the cell gave when it last moved
    age: Array  # [...] int32  steps since then, modulo `every`


@dataclass(frozen=True)
class Slower(Wrapper):
    """A cell that moves at every k-th step and holds still between (El Hihi & Bengio 1995).

        carry', y = cell's step       at the first of every k steps
                  = carry, last y     at the others, whatever x is

    `every` is k; the count begins anew at each reset and stands still at masked steps.
    Layers of a Stack with growing `every` see growing stretches of time. Raises
    ValueError if `every` is below 1.
    """

    cell: Cell
    every: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self, "every")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> SlowerParams:
        return SlowerParams(self.cell.init(key, dtype))

    def initial_carry(
        self, params: SlowerParams, batch_shape: tuple[int, ...] = ()
    ) -> SlowerCarry:
        inner = self.cell.initial_carry(params.cell, batch_shape)
        # y is real even where the carry is complex.
        real = jax.tree.leaves(inner)[0].real.dtype
        return SlowerCarry(
            inner,
            jnp.zeros((*batch_shape, self.output_size), real),
            jnp.zeros(batch_shape, jnp.int32),
        )

    def widen(self, carry: SlowerCarry) -> SlowerCarry:
        inner = self.cell.widen(carry.cell)
        real = jax.tree.leaves(inner)[0].real.dtype
        return carry._replace(cell=inner, y=carry.y.astype(real))

    def mix(self, params: SlowerParams, carry: SlowerCarry) -> Any:
        return super().mix(params, carry.cell)

    def gate(
        self, params: SlowerParams, carry: SlowerCarry, u: Any, r: Any
    ) -> tuple[SlowerCarry, Array]:
        return self._hold(carry, *super().gate(params, carry.cell, u, r))

    def recur(
        self, params: SlowerParams, carry: SlowerCarry, u: Any
    ) -> tuple[SlowerCarry, Array]:
        if self.splits:
            return super().recur(params, carry, u)
        return self._hold(carry, *self.cell.recur(params.cell, carry.cell, u))

    def _hold(self, carry: SlowerCarry, after: Any, y: Array) -> tuple[SlowerCarry, Array]:
        inner, y = select(carry.age == 0, (after, y), (carry.cell, carry.y))
        return SlowerCarry(inner, y, (carry.age + 1) % self.every), y

    def gates(
        self, params: SlowerParams, carry: SlowerCarry, u: Any, r: Any
    ) -> dict[str, Array]:
        raise ValueError(f"{self} holds still between its steps: look at its cell instead")

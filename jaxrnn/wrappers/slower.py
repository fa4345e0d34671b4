"""Several rates of time in one network."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Cell, exportable
from jaxrnn.constants import check_size
from jaxrnn.strategies.associative import compose
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.core import Outer
from jaxrnn.strategies.select import select
from jaxrnn.wrappers.wrapper import Wrapper


@exportable
class SlowerParams(NamedTuple):
    cell: Any


@exportable
class SlowerCarry(NamedTuple):
    cell: Any
    y: Array  # [..., *output_shape]  what the cell gave when it last moved
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
            jnp.zeros((*batch_shape, *self.output_shape), real),
            jnp.zeros(batch_shape, jnp.int32),
        )

    @property
    def shares_units(self) -> bool:
        return False  # its carry counts steps as well

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

    @property
    def core(self) -> Cell:
        return self.cell.core

    def inner_call(self, call: Call) -> tuple[Call, Outer]:
        """The cell's call, masked where it holds still."""
        start = self.widen(call.start)
        ages = self._ages(call)
        moves = select(call.mask, ages == 0, jnp.zeros_like(ages, bool))
        inner = call.replace(
            cell=self.cell,
            params=call.params.cell,
            start=call.start.cell,
            carry=call.carry.cell,
            mask=moves,
        )

        def outer(carry: Any, ys: Array) -> tuple[SlowerCarry, Array]:
            last = -1 if not call.reverse else 0
            age = select(call.mask, ages + 1, ages)[last] % self.every
            # What is new at a step stays until the next: h' = h, or h' = b where new.
            new, y = moves, ys.astype(start.y.dtype)
            if call.reset is not None:
                new = moves | call.reset
                begun = jnp.broadcast_to(start.y, y.shape)
                y = select(moves, y, select(call.reset, begun, y))
            y = compose(jnp.ones_like(y), y, call.carry.y, new, call.reverse)
            held = select(call.mask, y, jnp.zeros_like(y)).astype(ys.dtype)
            return SlowerCarry(carry, y[last], age), held

        return inner, outer

    def _ages(self, call: Call) -> Array:
        """The age `[T, ...]` that enters each step, after its reset."""
        age = call.carry.age
        valid = jnp.broadcast_to(jnp.ones_like(age), (call.length, *age.shape))
        valid = select(call.mask, valid, jnp.zeros_like(valid))
        added = valid
        if call.reset is not None:
            added = select(call.reset, call.start.age[None] + valid, valid)
        added = added[..., None]
        counts = compose(
            jnp.ones_like(added), added, age[..., None], call.reset, call.reverse
        )
        return (counts[..., 0] - valid) % self.every

    def gates(
        self, params: SlowerParams, carry: SlowerCarry, u: Any, r: Any
    ) -> dict[str, Array]:
        raise ValueError(f"{self} holds still between its steps: look at its cell instead")

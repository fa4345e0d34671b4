"""The loop over time that keeps the carry of every step, in place of the last alone."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell
from jaxrnn.strategies import scan
from jaxrnn.strategies.select import select
from jaxrnn.strategies.turns import over_steps


def over_time(
    cell: Cell,
    params: Any,
    start: Any,
    carry: Any,
    xs: Array,
    mask: Array | None,
    reset: Array | None,
    reverse: bool,
) -> tuple[Any, Array]:
    """As `scan.over_time`, with the carries after each step, leaves `[T, ...]`."""
    recur, us = scan.projected(cell, params, start, xs)
    start = cell.widen(start)

    def keep(carry: Any, inputs: Any) -> tuple[Any, Any]:
        u, valid, begin = inputs
        carry = carry if begin is None else select(begin, start, carry)
        after, y = recur(carry, u)
        after = select(valid, after, carry)
        return after, (after, select(valid, y, jnp.zeros_like(y)))

    return over_steps(keep, carry, (us, mask, reset), reverse)[1]


class Kept:
    """The carries of a cell at every step, where a composition expects its last one."""

    def __init__(self, carries: Any, reverse: bool):
        self.carries = carries
        self.reverse = reverse

    def last(self) -> Any:
        return jax.tree.map(lambda leaf: leaf[0 if self.reverse else -1], self.carries)


def check_keeps(strategy: str, checkpoint_every: int | None) -> None:
    if strategy not in ("auto", "scan"):
        raise ValueError(f"strategy {strategy!r} keeps no carries: take 'scan' or 'auto'")
    if checkpoint_every is not None:
        raise ValueError(
            "return_carries keeps the carry of every step, checkpoint_every="
            f"{checkpoint_every} one in so many: ask for one of them"
        )

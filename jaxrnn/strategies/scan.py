"""The reference: `jax.lax.scan` and JAX's own derivatives, forward mode included."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell
from jaxrnn.strategies.select import select

WHY = "it serves every cell, in every mode of differentiation"


def refusal(cell: Cell) -> str | None:
    return None


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
    us = cell.project(params, xs)
    return recur_over_time(cell, params, start, carry, us, mask, reset, reverse)


def recur_over_time(
    cell: Cell,
    params: Any,
    start: Any,
    carry: Any,
    us: Any,
    mask: Array | None,
    reset: Array | None,
    reverse: bool,
) -> tuple[Any, Array]:
    """`over_time` from the projected inputs on."""

    def step(carry: Any, inputs: Any) -> tuple[Any, Array]:
        u, valid, begin = inputs
        carry = carry if begin is None else select(begin, start, carry)
        after, y = cell.recur(params, carry, u)
        return select(valid, after, carry), select(valid, y, jnp.zeros_like(y))

    return jax.lax.scan(step, carry, (us, mask, reset), reverse=reverse)

"""The reference: `jax.lax.scan` and JAX's own derivatives, forward mode included."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, widen
from jaxrnn.strategies.select import select
from jaxrnn.strategies.step import Step, project
from jaxrnn.strategies.turns import over_steps

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
    recur, us = projected(cell, params, start, xs)
    return loop(recur, cell.widen(start), carry, us, mask, reset, reverse)


def projected(
    cell: Cell, params: Any, start: Any, xs: Array
) -> tuple[Callable[[Any, Any], tuple[Any, Array]], Any]:
    """`recur(carry, u) -> (carry, y)` of a wide carry, and the us `[T, ...]` it takes."""
    us = project(cell, params, xs)
    step = Step.of(cell, params, start, us)
    wide = widen(params)

    def recur(carry: Any, u: Any) -> tuple[Any, Array]:
        # Narrowed in here, so that what the derivative adds up over the loop is wide.
        return step.recur(step.weights(wide), carry, u)

    return recur, us


def loop(
    recur: Callable[[Any, Any], tuple[Any, Array]],
    start: Any,
    carry: Any,
    us: Any,
    mask: Array | None,
    reset: Array | None,
    reverse: bool,
) -> tuple[Any, Array]:
    """`recur(carry, u) -> (carry, y)` over us `[T, ...]`, with masks and resets."""

    def step(carry: Any, inputs: Any) -> tuple[Any, Array]:
        u, valid, begin = inputs
        carry = carry if begin is None else select(begin, start, carry)
        after, y = recur(carry, u)
        return select(valid, after, carry), select(valid, y, jnp.zeros_like(y))

    return over_steps(step, carry, (us, mask, reset), reverse)

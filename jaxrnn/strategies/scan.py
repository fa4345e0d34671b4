"""The reference: `jax.lax.scan` and JAX's own derivatives, forward mode included."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxrnn.arrays import cast_like, widen
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.select import select
from jaxrnn.strategies.step import Step, project
from jaxrnn.strategies.strategy import Strategy
from jaxrnn.strategies.turns import over_steps

Recur = Callable[[Any, Any], tuple[Any, Array]]  # (carry, u) -> (carry, y)


@dataclass(frozen=True)
class Scan(Strategy):
    """One step after the other."""

    why = "it serves every cell, in every mode of differentiation"

    def over_time(self, call: Call) -> tuple[Any, Array]:
        return loop(*_recur(call))


@dataclass(frozen=True)
class Carries(Strategy):
    """`Scan` that gives (ys, carries) for ys, with the carry after each step in leaves
    `[T, ...]`, narrow as `call.start`; a masked step holds it."""

    why = "it keeps the carry of every step"

    def over_time(self, call: Call) -> tuple[Any, tuple[Array, Any]]:
        def both(after: Any, y: Array) -> tuple[Array, Any]:
            return y, cast_like(after, call.start)

        return loop(*_recur(call), output=both)


def _recur(call: Call) -> tuple[Recur, Call]:
    """What recurs, of a wide carry, and the call for `loop`."""
    us = project(call)
    step = Step.of(call, us)
    wide = widen(call.params)

    def recur(carry: Any, u: Any) -> tuple[Any, Array]:
        # Narrowed in here, so that what the derivative adds up over the loop is wide.
        return step.recur(step.weights(wide), carry, u)

    return recur, call.replace(start=call.cell.widen(call.start), inputs=us)


def loop(
    recur: Recur, call: Call, output: Callable[[Any, Array], Any] = lambda after, y: y
) -> tuple[Any, Any]:
    """`recur` over `call.inputs`, the us, with masks, and resets to a wide `call.start`.

    Returns the last carry and, of all steps, `output(carry after it, y)`.
    """

    def step(carry: Any, inputs: Any) -> tuple[Any, Any]:
        u, valid, begin = inputs
        carry = carry if begin is None else select(begin, call.start, carry)
        after, y = recur(carry, u)
        after = select(valid, after, carry)
        return after, output(after, select(valid, y, jnp.zeros_like(y)))

    return over_steps(step, call.carry, (call.inputs, call.mask, call.reset), call.reverse)

"""What every cell within a recurrence does at every step of a sequence."""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Composition, Recurrence
from jaxrnn.diagnostics.gates import gate_values, has_gates
from jaxrnn.diagnostics.over_time import gradient_by_lag, walk
from jaxrnn.entry import leading_shape


class Within(NamedTuple):
    """One cell of a recurrence, or another part that only steps as a whole."""

    cell: Recurrence
    backwards: bool  # whether it reads from the last step to the first
    ys: Array  # [T, ..., output_size], in the order of the sequence
    gates: dict[str, Array]  # by name [T, ..., H], or one number a block or head
    # [T]: `gradient_by_lag` of its last output, by its carry so many steps before
    by_lag: Array


def within(
    recurrence: Recurrence, params: Any, xs: Array, lags: int = 0
) -> tuple[list[Within], Array]:
    """The cells of a recurrence in the order in which they run, on xs `[T, ..., D]`, and
    what it puts out as a whole.

    The gates are those of `gate_values`, and none of a cell that has none. lags: how many
    of its last steps `by_lag` looks back over, which takes as many passes as the cell has
    outputs. Raises ValueError where `unroll` would.
    """
    found: list[Within] = []

    def run(
        part: Recurrence,
        params: Any,
        carry: Any,
        xs: Array,
        against: bool = False,
        *,
        backwards: bool = False,
    ) -> tuple[Any, Array]:
        backwards ^= against
        if isinstance(part, Composition):
            inner = partial(run, backwards=backwards)
            return part.over_time(inner, params, carry, xs)
        one = _look(part, params, carry, xs, backwards, lags)
        found.append(one)
        return carry, one.ys

    carry = recurrence.initial_carry(params, leading_shape(recurrence, xs)[1:])
    _, ys = run(recurrence, params, carry, xs)
    return found, ys


def _look(
    cell: Recurrence, params: Any, carry: Any, xs: Array, backwards: bool, lags: int
) -> Within:
    read = jnp.flip(xs, 0) if backwards else xs
    told = {"ys": walk(cell, params, read, carry).ys}
    if has_gates(cell):
        told |= gate_values(cell, params, read, carry)
    if backwards:
        told = {name: jnp.flip(values, 0) for name, values in told.items()}
    by_lag = gradient_by_lag(cell, params, read[-lags:]) if lags else jnp.zeros(0)
    return Within(cell, backwards, told.pop("ys"), told, by_lag)

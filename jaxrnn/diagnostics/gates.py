"""What the gates of a cell do: how long it remembers, how firmly they stand."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, Recurrence
from jaxrnn.diagnostics.over_time import walk
from jaxrnn.strategies.select import select
from jaxrnn.wrappers.slower import Slower
from jaxrnn.wrappers.wrapper import cells_of


@partial(jax.jit, static_argnames="cell")
def gate_values(
    cell: Recurrence,
    params: Any,
    xs: Array,
    carry: Any = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
) -> dict[str, Array]:
    """Every gate at every step, by name: `[T, ..., H]`, or one number a block or head.

    "forget" is the share of the memory that is kept; "input", "output" and "reset" are
    those of the cell's equations. Gates at masked steps are those the cell would have
    had, of inputs of zero. Arguments and errors are those of `walk`; raises ValueError
    also for a cell without gates, and for a composition, whose parts have gates of their
    own.
    """
    if not isinstance(cell, Cell):
        raise ValueError(
            f"gates belong to a cell, got {cell}: take one of its parts, with its params "
            "and what goes into it"
        )
    entering = walk(cell, params, xs, carry, mask=mask, reset=reset).entering
    if mask is not None:
        xs = select(mask, xs, jnp.zeros_like(xs))
    params, inputs = cell.prepare(params, xs)
    us = cell.project(params, inputs)
    # The steps are one more batch axis, since the carries are known.
    rs = cell.mix(params, entering) if cell.splits else None
    return cell.gates(params, entering, us, rs)


class Saturation(NamedTuple):
    """The shares of a gate's values that are nearly shut and nearly open."""

    shut: Array  # [H]
    open: Array  # [H]


def saturation(
    gate: Array, mask: Array | None = None, *, low: float = 0.1, high: float = 0.9
) -> Saturation:
    """How much of the time each unit's gate is below `low` and above `high`.

    gate `[T, ..., H]` is an entry of `gate_values`, mask `[T, ...]` leaves out the steps
    that are not valid.
    """
    return Saturation(_mean(gate < low, mask), _mean(gate > high, mask))


def memory_horizon(forget: Array, mask: Array | None = None) -> Array:
    """The steps after which a share 1 / e of a memory is left: `[H]`, a number a unit.

        horizon = -1 / mean(log f)

    over time and rows, since what is left after n steps is the product of their f. It is
    1 / (1 - f) where a constant f is near 1, and infinite where nothing is forgotten.
    forget `[T, ..., H]` is the entry "forget" of `gate_values`.
    """
    return 1 / jnp.abs(_mean(jnp.log(forget), mask))


def horizons(
    cell: Recurrence, params: Any, xs: Array, *, mask: Array | None = None
) -> Array:
    """How long each unit of a cell remembers on xs `[T, ..., D]`, in steps: `[H]`, the
    `memory_horizon` of its gate "forget"; `[0]` for a recurrence that has none of its own.
    """
    if not has_gates(cell):
        return jnp.zeros(0)
    gates = gate_values(cell, params, xs, mask=mask)
    return memory_horizon(gates["forget"], mask) if "forget" in gates else jnp.zeros(0)


def has_gates(recurrence: Recurrence) -> bool:
    """Whether it is a cell that shows gates, seen through what is around it."""
    if not isinstance(recurrence, Cell):
        return False
    cells = list(cells_of(recurrence))
    slower = any(isinstance(cell, Slower) for cell in cells)
    return not slower and type(cells[-1]).gates is not Cell.gates


def _mean(values: Array, mask: Array | None) -> Array:
    """Over all axes but the last."""
    axes = tuple(range(values.ndim - 1))
    return jnp.mean(values, axis=axes, where=None if mask is None else mask[..., None])

"""Running a recurrence over time: entry checks, masks, resets, direction, strategy."""

from functools import partial
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.arrays import across
from jaxrnn.cell import Carry, Cell, Composition, Params, Recurrence
from jaxrnn.entry import (
    as_array,
    as_carry,
    as_length,
    as_numbers,
    as_params,
    check_xs,
    leading_shape,
)
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.choose import Named, Told, as_keeping, as_strategy
from jaxrnn.strategies.devices import shared
from jaxrnn.strategies.run import run
from jaxrnn.strategies.select import select
from jaxrnn.strategies.strategy import Strategy


@overload
def unroll(
    recurrence: Recurrence[Params, Carry],
    params: Params,
    xs: Array,
    carry: Carry | None = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    reverse: bool = False,
    strategy: Named | Strategy = "auto",
    checkpoint_every: int | None = None,
    start: Carry | None = None,
    return_carries: Literal[True],
) -> tuple[Carry, Array, Carry]: ...


@overload
def unroll(
    recurrence: Recurrence[Params, Carry],
    params: Params,
    xs: Array,
    carry: Carry | None = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    reverse: bool = False,
    strategy: Named | Strategy = "auto",
    checkpoint_every: int | None = None,
    start: Carry | None = None,
    return_carries: Literal[False] = False,
) -> tuple[Carry, Array]: ...


def unroll(
    recurrence: Recurrence[Any, Any],
    params: Any,
    xs: Array,
    carry: Any = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    reverse: bool = False,
    strategy: Named | Strategy = "auto",
    checkpoint_every: int | None = None,
    start: Any = None,
    return_carries: bool = False,
) -> Any:
    """Runs `recurrence` over the leading axis of `xs`.

    Without masks and resets it equals

        ys = []
        for x in xs:
            carry, y = recurrence.step(params, carry, x)
            ys.append(y)
        return carry, jnp.stack(ys)

    xs `[T, ..., D]` gives ys `[T, ..., output_size]`; the axes between are batch axes.

    carry: the carry before the first step; the initial carry if None.
    mask `[T, ...]` bool: where False, the carry is held and y is zero, whatever x holds.
        A row without a valid step returns the carry it began with.
    reset `[T, ...]` bool: True where a new sequence begins; the carry is replaced by the
        initial carry (not by the one passed in) before x is consumed, at a masked step
        too.
    reverse: from the last step to the first. `reset` still marks the first step of each
        sequence in forward time; the carry is replaced at each sequence's last step.
        (Cut such a run in two only where no sequence begins: the earlier part cannot
        know that its last step ends one.)
    strategy: "scan" (the reference), "fused" (deferred weight gradients), "associative"
        (linear recurrences, parallel over time), "chunkwise" (blocks of time, each in
        parallel), "resident" (a kernel for TPUs, never timed on one), an object of
        `jaxrnn.strategies`, such as `Chunkwise(length=128)`, or "auto", which takes what is
        best on the platform that is compiled for; `explain` tells what that is and why.
    checkpoint_every: keep one carry every so many steps for the derivative and
        recompute between; memory O(T / k + k) instead of O(T).
    start: the carry of a fresh sequence, in place of the initial carry: what a reset
        starts from, and the first step where `carry` is None.
    return_carries: give (carry, ys, carries) with the carry after each step, of leaves
        `[T, ...]`; a masked step holds it. By "scan" alone.

    Raises ValueError if a shape, a dtype or the strategy does not fit.
    """
    _check_recurrence(recurrence)
    params = as_params(recurrence, params)
    xs = as_numbers(params, xs, "xs")
    mask = None if mask is None else as_array(mask, "mask")
    reset = None if reset is None else as_array(reset, "reset")
    if not isinstance(reverse, bool | np.bool_):
        raise ValueError(f"reverse must be True or False, got {reverse!r}")
    batch_shape = check_xs(recurrence, xs, mask, reset, checkpoint_every)
    asked = as_strategy(strategy)
    if return_carries:
        asked = as_keeping(asked)
    if start is not None:
        start = as_carry(recurrence, params, start, batch_shape)
    if carry is not None:
        carry = as_carry(recurrence, params, carry, batch_shape)
    elif start is not None:
        carry = start
    else:
        carry = recurrence.initial_carry(params, batch_shape)
    # Padding may hold anything, NaN included: neither value nor gradient may see it.
    xs = select(mask, xs, jnp.zeros_like(xs))

    def over_time(part: Recurrence, params: Any, carry: Any, xs: Array, reverse: bool):
        if isinstance(part, Cell):
            arrays = (params, *carry, xs, mask, reset)
            last, ys = _cell_over_time(part, reverse, asked, checkpoint_every, *arrays)
            return (Kept(last, ys[1]), ys[0]) if return_carries else (last, ys)

        def run_part(inner, params, carry, xs, against: bool = False):
            return over_time(inner, params, carry, xs, reverse != against)

        assert isinstance(part, Composition)
        carry, ys = part.over_time(run_part, params, carry, xs)
        return carry, select(mask, ys, jnp.zeros_like(ys))

    carry = _with_start(recurrence, carry, start)
    last, ys = over_time(recurrence, params, carry, xs, bool(reverse))
    if not return_carries:
        return last, ys
    kept = partial(jax.tree.map, is_leaf=lambda part: isinstance(part, Kept))
    return kept(lambda part: part.last, last), ys, kept(lambda part: part.carries, last)


def explain(
    recurrence: Recurrence[Any, Any],
    params: Any = None,
    xs: Any = None,
    *arguments: Any,
    strategy: Named | Strategy = "auto",
    return_carries: bool = False,
    **options: Any,
) -> str:
    """Says which strategy `unroll` takes with the same arguments, on which platform, and
    why: one line a cell, or one for each choice where the platforms differ.

    Nothing is computed: any array may be a `jax.ShapeDtypeStruct`. Without params they are
    float32, without xs one sequence of 128 steps. Raises ValueError where `unroll` would.
    """
    _check_recurrence(recurrence)
    asked = as_strategy(strategy)
    told = Told(as_keeping(asked) if return_carries else asked)

    def run_abstractly() -> None:
        def zeros(leaf: Any) -> Any:
            shape = isinstance(leaf, jax.ShapeDtypeStruct)
            return jnp.zeros(leaf.shape, leaf.dtype) if shape else leaf

        given = (params, xs, *arguments), options
        (own, steps, *more), named = jax.tree.map(zeros, given)
        if own is None:
            own = recurrence.init(jax.random.key(0))
        if steps is None:
            steps = jnp.zeros((128, *recurrence.input_shape), int)  # in the params' dtype
        unroll(recurrence, own, steps, *more, strategy=told, **named)

    jax.eval_shape(run_abstractly)
    return "\n".join(told.lines)


def length_mask(lengths: Array, length: int) -> Array:
    """The mask `[T, ...]` of sequences of `lengths` `[...]`, padded to T = `length`."""
    lengths = as_array(lengths, "lengths")
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths must be integers, got {lengths.dtype}")
    length = as_length(length)
    times = jnp.arange(length).reshape((length,) + (1,) * lengths.ndim)
    return times < across(lengths, times)


class Kept(NamedTuple):
    """What `return_carries` has of a cell, where a composition expects its last carry."""

    last: Any
    carries: Any


def _check_recurrence(given: Any) -> None:
    if not isinstance(given, Cell | Composition):
        raise ValueError(f"a recurrence is a Cell or a Composition, got {given!r}")


def _with_start(recurrence: Recurrence, carry: Any, start: Any) -> Any:
    """The carry of each cell, paired with what a reset of it starts from."""
    if isinstance(recurrence, Cell):
        return carry, start
    assert isinstance(recurrence, Composition)
    parts = recurrence.parts
    starts = (None,) * len(parts) if start is None else start
    return tuple(map(_with_start, parts, carry, starts))


# Compiled here, so that a call outside of any jit is compiled once for equal cells.
@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _cell_over_time(
    cell: Cell,
    reverse: bool,
    asked: Strategy | None,
    checkpoint_every: int | None,
    params: Any,
    carry: Any,
    start: Any,
    xs: Array,
    mask: Array | None,
    reset: Array | None,
) -> tuple[Any, Any]:
    call = Call.of(cell, reverse, params, carry, start, xs, mask, reset)

    def one_part(call: Call) -> tuple[Any, Any]:
        return run(call, asked, checkpoint_every)

    return shared(one_part, call, leading_shape(cell, xs)[1:])

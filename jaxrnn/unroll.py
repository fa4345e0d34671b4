"""Running a recurrence over time: entry checks, masks, resets, direction, strategy."""

from functools import partial
from itertools import product
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cell import Carry, Cell, Composition, Params, Recurrence, across, cast_like
from jaxrnn.entry import as_array, as_carry, as_length, as_numbers, as_params, check_xs
from jaxrnn.strategies import associative, carries, chunkwise, fused, scan
from jaxrnn.strategies.checkpoint import in_segments
from jaxrnn.strategies.placement import shard, vary
from jaxrnn.strategies.select import select

# In the order of preference of "auto".
STRATEGIES = {
    "fused": fused,
    "chunkwise": chunkwise,
    "associative": associative,
    "scan": scan,
}

LOOPS = STRATEGIES | {"carries": carries}

# What "auto" passes over on a platform although it could serve, and why.
PASSED_OVER = {("associative", "cpu"): "on a CPU one loop over time is faster"}


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
    strategy: str = "auto",
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
    strategy: str = "auto",
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
    strategy: str = "auto",
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
        parallel) or "auto"; `explain` tells what "auto" takes and why.
    checkpoint_every: keep one carry every so many steps for the derivative and
        recompute between; memory O(T / k + k) instead of O(T).
    start: the carry of a fresh sequence, in place of the initial carry: what a reset
        starts from, and the first step where `carry` is None.
    return_carries: give (carry, ys, carries) with the carry after each step, of leaves
        `[T, ...]`; a masked step holds it. By "scan" alone, without `checkpoint_every`.

    Raises ValueError if a shape, a dtype or the strategy does not fit.
    """
    if not isinstance(recurrence, Recurrence):
        raise ValueError(f"a recurrence is a Cell or a Composition, got {recurrence!r}")
    params = as_params(recurrence, params)
    xs = as_numbers(params, xs, "xs")
    mask = None if mask is None else as_array(mask, "mask")
    reset = None if reset is None else as_array(reset, "reset")
    if not isinstance(reverse, bool | np.bool_):
        raise ValueError(f"reverse must be True or False, got {reverse!r}")
    batch_shape = check_xs(recurrence, xs, mask, reset, checkpoint_every)
    if return_carries:
        carries.check_keeps(strategy, checkpoint_every)
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

    def run(part: Recurrence, params: Any, carry: Any, xs: Array, reverse: bool):
        if isinstance(part, Cell):
            name = _serving(part, strategy, start is not None)
            carry, start_of_part = carry
            if return_carries:
                name = "carries"
            carry, ys = _cell_over_time(
                part,
                params,
                carry,
                start_of_part,
                xs,
                mask,
                reset,
                reverse,
                name,
                checkpoint_every,
            )
            return (carries.Kept(carry, reverse) if return_carries else carry), ys

        def run_part(inner, params, carry, xs, against: bool = False):
            return run(inner, params, carry, xs, reverse != against)

        carry, ys = _composition(part).over_time(run_part, params, carry, xs)
        return carry, select(mask, ys, jnp.zeros_like(ys))

    last, ys = run(recurrence, params, _with_start(recurrence, carry, start), xs, reverse)
    if not return_carries:
        return last, ys
    kept = partial(jax.tree.map, is_leaf=lambda part: isinstance(part, carries.Kept))
    return kept(carries.Kept.last, last), ys, kept(lambda part: part.carries, last)


def explain(
    recurrence: Recurrence, *arguments: Any, strategy: str = "auto", **options: Any
) -> str:
    """Says which strategy `unroll` takes with the same arguments, and why.

    Only the recurrence and `strategy` matter today. Raises ValueError where `unroll`
    would refuse the strategy.
    """
    if isinstance(recurrence, Cell):
        name, why = _choose(recurrence, strategy)
        return f"{type(recurrence).__name__}: {name}, because {why}"
    return "\n".join(
        explain(part, strategy=strategy) for part in _composition(recurrence).parts
    )


def length_mask(lengths: Array, length: int) -> Array:
    """The mask `[T, ...]` of sequences of `lengths` `[...]`, padded to T = `length`."""
    lengths = as_array(lengths, "lengths")
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths must be integers, got {lengths.dtype}")
    length = as_length(length)
    times = jnp.arange(length).reshape((length,) + (1,) * lengths.ndim)
    return times < across(lengths, times)


def _composition(recurrence: Recurrence) -> Composition:
    if isinstance(recurrence, Composition):
        return recurrence
    raise ValueError(f"a recurrence is a Cell or a Composition, got {recurrence!r}")


def _with_start(recurrence: Recurrence, carry: Any, start: Any) -> Any:
    """The carry of each cell, paired with what a reset of it starts from."""
    if isinstance(recurrence, Cell):
        return carry, start
    parts = _composition(recurrence).parts
    starts = (None,) * len(parts) if start is None else start
    return tuple(map(_with_start, parts, carry, starts))


def _serving(cell: Cell, strategy: str, starts: bool) -> str:
    """The name of the strategy that runs `cell`, from a start of its own or not."""
    name, _ = _choose(cell, strategy)
    if name != "chunkwise" or not starts:
        return name
    if strategy == "auto":
        return "scan"
    raise ValueError(
        f"strategy {strategy!r} resets to the initial carry: with start take 'scan'"
    )


def _choose(cell: Cell, strategy: str) -> tuple[str, str]:
    """The name of the strategy that runs `cell`, and the reason."""
    if strategy == "auto":
        refusals = []
        for name, candidate in STRATEGIES.items():
            why_not = candidate.refusal(cell)
            unwise = PASSED_OVER.get((name, jax.default_backend()))
            if why_not is None and unwise is None:
                return name, "; ".join([candidate.WHY, *refusals])
            if why_not is None:
                refusals.append(f"{name} would serve it too ({unwise})")
            else:
                refusals.append(f"{name} cannot serve it ({why_not})")
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        raise ValueError(
            f"unknown strategy {strategy!r}; known: auto, {', '.join(STRATEGIES)}"
        )
    why_not = STRATEGIES[strategy].refusal(cell)
    if why_not is not None:
        raise ValueError(
            f"strategy {strategy!r} cannot serve {type(cell).__name__}: {why_not}"
        )
    return strategy, "it was asked for"


# Compiled here, so that a call outside of any jit is compiled once for equal cells.
@partial(jax.jit, static_argnames=("cell", "reverse", "strategy", "checkpoint_every"))
def _cell_over_time(
    cell, params, carry, start, xs, mask, reset, reverse, strategy, checkpoint_every
):
    if start is None:
        start = cell.initial_carry(params, xs.shape[1:-1])
    params, carry = vary((params, carry), xs, mask, reset)
    start = vary(start, params)
    start, carry = shard(start, xs), shard(carry, xs)
    params, inputs = cell.prepare(params, xs)
    _check_dtype(cell, params, carry, inputs)
    if reset is not None and reverse:
        # The carry starts anew where, seen forward in time, a sequence ends.
        reset = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])

    def run(shared, carry, per_step):
        (params, start), (inputs, mask, reset) = shared, per_step
        return LOOPS[strategy].over_time(
            cell, params, start, carry, inputs, mask, reset, reverse
        )

    shared, wide, per_step = (params, start), cell.widen(carry), (inputs, mask, reset)
    if checkpoint_every is None:
        last, ys = run(shared, wide, per_step)
    else:
        last, ys = in_segments(run, checkpoint_every, shared, wide, per_step, reverse)
    return cast_like(last, carry), ys


def _check_dtype(cell: Cell, params: Any, carry: Any, inputs: Any) -> None:
    """Inputs wider than the carry would widen it, unless the cell casts what it takes."""
    with jax.numpy_dtype_promotion("standard"):
        wider = [
            (x.dtype, leaf.dtype)
            for x, leaf in product(jax.tree.leaves(inputs), jax.tree.leaves(carry))
            if jnp.issubdtype(leaf.dtype, jnp.inexact)
            and jnp.promote_types(x.dtype, leaf.dtype) != leaf.dtype
        ]
    if wider and not _keeps_dtypes(cell, params, carry, inputs):
        wide, narrow = wider[0]
        raise ValueError(
            f"xs of {wide} are too wide for {cell} with a carry of {narrow}: cast xs, or "
            f"draw the parameters in {wide}"
        )


def _keeps_dtypes(cell: Cell, params: Any, carry: Any, inputs: Any) -> bool:
    """Whether a step mixes no dtypes unless it casts, and leaves the carry its own."""

    def first(params: Any, carry: Any, inputs: Any) -> Any:
        u = cell.project(params, jax.tree.map(lambda leaf: leaf[0], inputs))
        return cell.recur(params, carry, u)[0]

    # Strict, or the products of a cell that casts its carry alone were wide in silence.
    try:
        with jax.numpy_dtype_promotion("strict"):
            after = jax.eval_shape(first, params, carry, inputs)
    except jax.dtypes.TypePromotionError:
        return False
    return jax.tree.map(jnp.result_type, after) == jax.tree.map(jnp.result_type, carry)

"""Running a recurrence over time: entry checks, masks, resets, direction, strategy."""

from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Carry, Cell, Composition, Params, Recurrence, cast_like
from jaxrnn.strategies import associative, chunkwise, fused, scan
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

# What "auto" passes over on a platform although it could serve, and why.
PASSED_OVER = {("associative", "cpu"): "on a CPU one loop over time is faster"}


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
) -> tuple[Carry, Array]:
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

    Raises ValueError if a shape, a dtype or the strategy does not fit.
    """
    xs = jnp.asarray(xs)
    mask, reset = (None if f is None else jnp.asarray(f) for f in (mask, reset))
    batch_shape = _check_inputs(recurrence, xs, mask, reset, checkpoint_every)
    if carry is None:
        carry = recurrence.initial_carry(params, batch_shape)
    else:
        _check_carry(recurrence, params, carry, batch_shape)
    # Padding may hold anything, NaN included: neither value nor gradient may see it.
    xs = select(mask, xs, jnp.zeros_like(xs))

    def run(part: Recurrence, params: Any, carry: Any, xs: Array, reverse: bool):
        if isinstance(part, Cell):
            name, _ = _choose(part, strategy)
            return _cell_over_time(
                part, params, carry, xs, mask, reset, reverse, name, checkpoint_every
            )

        def run_part(inner, params, carry, xs, against: bool = False):
            return run(inner, params, carry, xs, reverse != against)

        carry, ys = _composition(part).over_time(run_part, params, carry, xs)
        return carry, select(mask, ys, jnp.zeros_like(ys))

    return run(recurrence, params, carry, xs, reverse)


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
    lengths = jnp.asarray(lengths)
    times = jnp.arange(length).reshape((length,) + (1,) * lengths.ndim)
    return times < lengths


def _composition(recurrence: Recurrence) -> Composition:
    if isinstance(recurrence, Composition):
        return recurrence
    raise ValueError(f"a recurrence is a Cell or a Composition, got {recurrence!r}")


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
    if strategy not in STRATEGIES:
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
    cell, params, carry, xs, mask, reset, reverse, strategy, checkpoint_every
):
    params, carry = vary((params, carry), xs, mask, reset)
    start = vary(cell.initial_carry(params, xs.shape[1:-1]), params)
    start, carry = shard(start, xs), shard(carry, xs)
    params, inputs = cell.prepare(params, xs)
    _check_dtype(cell, params, carry, inputs)
    if reset is not None and reverse:
        # The carry starts anew where, seen forward in time, a sequence ends.
        reset = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])

    def run(shared, carry, per_step):
        (params, start), (inputs, mask, reset) = shared, per_step
        return STRATEGIES[strategy].over_time(
            cell, params, start, carry, inputs, mask, reset, reverse
        )

    shared, wide, per_step = (params, start), cell.widen(carry), (inputs, mask, reset)
    if checkpoint_every is None:
        last, ys = run(shared, wide, per_step)
    else:
        last, ys = in_segments(run, checkpoint_every, shared, wide, per_step, reverse)
    return cast_like(last, carry), ys


def _check_inputs(
    recurrence: Recurrence,
    xs: Array,
    mask: Array | None,
    reset: Array | None,
    checkpoint_every: int | None,
) -> tuple[int, ...]:
    """Returns the batch shape."""
    if xs.ndim < 2 or xs.shape[0] == 0 or xs.shape[-1] != recurrence.input_size:
        raise ValueError(
            f"xs must be [T, ..., {recurrence.input_size}] with T of 1 or more for "
            f"{recurrence}, got shape {list(xs.shape)}"
        )
    for name, flags in (("mask", mask), ("reset", reset)):
        if flags is None:
            continue
        if flags.dtype != bool:
            raise ValueError(f"{name} must be bool, got {flags.dtype}")
        if flags.shape != xs.shape[:-1]:
            raise ValueError(
                f"{name} must be [T, ...] = {list(xs.shape[:-1])} for xs of shape "
                f"{list(xs.shape)}, got {list(flags.shape)}"
            )
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every must be 1 or more, got {checkpoint_every}")
    return xs.shape[1:-1]


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


def _check_carry(
    recurrence: Recurrence, params: Any, carry: Any, batch_shape: tuple[int, ...]
) -> None:
    wanted = jax.eval_shape(lambda p: recurrence.initial_carry(p, batch_shape), params)
    if jax.tree.structure(carry) != jax.tree.structure(wanted):
        raise ValueError(
            f"carry must be {jax.tree.structure(wanted)} for {recurrence}, "
            f"got {jax.tree.structure(carry)}"
        )
    for (path, want), got in zip(
        jax.tree.leaves_with_path(wanted), jax.tree.leaves(carry), strict=True
    ):
        if jnp.shape(got) != want.shape or jnp.result_type(got) != want.dtype:
            raise ValueError(
                f"carry{jax.tree_util.keystr(path)} must be {want.dtype}"
                f"{list(want.shape)}, got {jnp.result_type(got)}{list(jnp.shape(got))}"
            )

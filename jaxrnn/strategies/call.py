"""One cell's call of `unroll`, as the strategies are handed it."""

import dataclasses
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell
from jaxrnn.entry import leading_shape
from jaxrnn.strategies.placement import shard, vary


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Call:
    """A cell, the direction of time, and all arrays of one run over it."""

    cell: Cell = field(metadata={"static": True})
    reverse: bool = field(metadata={"static": True})
    own_start: bool = field(metadata={"static": True})  # was `start` given to `unroll`?
    params: Any  # as `Cell.prepare` gives them
    start: Any  # the carry of a fresh sequence
    carry: Any  # the carry before the first step, as wide as `Cell.widen` makes it
    inputs: Any  # what each step takes in, leaves [T, ...]: those of `Cell.prepare`
    mask: Array | None  # [T, ...] bool
    reset: Array | None  # [T, ...] bool, True where the carry becomes `start` before a step

    @classmethod
    def of(
        cls,
        cell: Cell,
        reverse: bool,
        params: Any,
        carry: Any,
        start: Any,
        xs: Array,
        mask: Array | None,
        reset: Array | None,
    ) -> "Call":
        """From `unroll`'s arguments, `start` None for the cell's initial carry.

        Raises ValueError if a step would widen the carry.
        """
        own_start = start is not None
        if start is None:
            start = cell.initial_carry(params, leading_shape(cell, xs)[1:])
        params, carry = vary((params, carry), xs, mask, reset)
        start = vary(start, params)
        start, carry = shard((start, carry), xs, len(cell.input_shape))
        params, inputs = cell.prepare(params, xs)
        _check_dtype(cell, params, carry, inputs)
        if reset is not None and reverse:
            # The carry starts anew where, seen forward in time, a sequence ends.
            reset = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])
        carry = cell.widen(carry)
        return cls(cell, reverse, own_start, params, start, carry, inputs, mask, reset)

    def replace(self, **changes: Any) -> "Call":
        return dataclasses.replace(self, **changes)

    @property
    def per_step(self) -> dict[str, Any]:
        """The fields with a time axis, by name."""
        return {"inputs": self.inputs, "mask": self.mask, "reset": self.reset}

    @property
    def length(self) -> Any:
        """T: an int, or a size that is not known yet in an export."""
        return jax.tree.leaves(self.inputs)[0].shape[0]


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

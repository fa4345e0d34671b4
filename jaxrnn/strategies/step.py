"""One step inside the loop over time, where all that adds up is wide.

In bfloat16, 256 + 1 is 256: a carry that adds a little at every step stops growing, and
so does the sum of a thousand steps' gradients. Narrow parameters therefore give narrow
products only. The carry, the arithmetic of `gate` and the sums of the derivative have
float32 or wider; with parameters of float32 or wider nothing is cast at all.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import cast_like, widen
from jaxrnn.cell import Cell
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.products import for_all_steps


def project(call: Call) -> Any:
    """The us `[T, ...]`: the cell's `project` of all steps at once."""
    return for_all_steps(call.cell.project)(call.params, call.inputs)


class Weights(NamedTuple):
    """The parameters of a step, twice."""

    products: Any  # in their own dtype
    rest: Any  # as wide as the carry in the loop


@dataclass(frozen=True)
class Step:
    """The step of `cell` with its carry as the loop holds it."""

    cell: Cell
    params: Any  # shapes and dtypes outside of the loop
    carry: Any  # likewise
    y: DTypeLike | None  # None where the loop is no wider than what is outside

    @classmethod
    def of(cls, call: Call, us: Any) -> "Step":
        """us `[T, ...]` are all that `project` gives."""
        cell, params, start = call.cell, call.params, call.start

        def first_y(params: Any, carry: Any, us: Any) -> Array:
            return cell.recur(params, carry, jax.tree.map(lambda leaf: leaf[0], us))[1]

        shapes = jax.eval_shape(lambda *trees: trees, params, start)
        if _dtypes(jax.eval_shape(cell.widen, start)) == _dtypes(start):
            return cls(cell, *shapes, y=None)
        return cls(cell, *shapes, y=jax.eval_shape(first_y, params, start, us).dtype)

    def weights(self, wide: Any) -> Weights:
        """From the parameters in float32 or wider, in which their gradient adds up."""
        narrow = cast_like(wide, self.params)
        return Weights(narrow, narrow if self.y is None else wide)

    def mix(self, weights: Weights, carry: Any) -> Any:
        return self.cell.mix(weights.products, cast_like(carry, self.carry))

    def gate(self, weights: Weights, carry: Any, u: Any, r: Any) -> tuple[Any, Array]:
        if self.y is None:
            return self.cell.gate(weights.rest, carry, u, r)
        after, y = self.cell.gate(weights.rest, carry, widen(u), widen(r))
        return cast_like(after, carry), y.astype(self.y)

    def recur(self, weights: Weights, carry: Any, u: Any) -> tuple[Any, Array]:
        if self.cell.splits:
            return self.gate(weights, carry, u, self.mix(weights, carry))
        if self.y is None:
            return self.cell.recur(weights.rest, carry, u)
        after, y = self.cell.recur(weights.rest, carry, widen(u))
        return cast_like(after, carry), y.astype(self.y)


def _dtypes(tree: Any) -> list:
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]

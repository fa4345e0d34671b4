"""Around the core of a cell: what wrappers do to a whole call, and to its result."""

from collections.abc import Callable
from typing import Any

from jax import Array

from jaxrnn.strategies.call import Call

Outer = Callable[[Any, Array], tuple[Any, Array]]


def core_call(call: Call) -> tuple[Call, Outer]:
    """The call of `call.cell.core`, and (carry, ys) of the whole from those of the core."""
    cell: Any = call.cell
    if cell.core is cell:
        return call, lambda carry, ys: (carry, ys)
    call, outer = cell.inner_call(call)
    call, inner = core_call(call)
    return call, lambda carry, ys: outer(*inner(carry, ys))

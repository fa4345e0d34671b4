"""A cell around a cell."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from jax import Array

from jaxrnn.cell import Cell
from jaxrnn.linear import LinearCell
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.core import Outer


class Wrapper(Cell[Any, Any]):
    """A cell that changes one thing about another and leaves it the rest.

    A subclass is a frozen dataclass with a field `cell`. Its params are a NamedTuple
    with a field `cell`, the inner cell's params, and whatever it adds. Its carry is the
    inner cell's.
    """

    cell: Cell
    needs_split = False  # whether it reaches between the inner cell's mix and gate

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not isinstance(self.cell, Cell):
            raise ValueError(
                f"{name} wraps a cell, got {self.cell}; wrap the cells it is made of"
            )
        if self.needs_split and not self.cell.splits:
            raise ValueError(
                f"{name} needs a cell that splits into mix and gate, which "
                f"{type(self.cell).__name__} does not"
            )

    @property
    def input_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cell.input_size

    @property
    def hidden_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cell.hidden_size

    @property
    def output_size(self) -> int:
        return self.cell.output_size

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (*self.cell.input_shape[:-1], self.input_size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (*self.cell.output_shape[:-1], self.output_size)

    @property
    def splits(self) -> bool:
        return self.cell.splits

    @property
    def shares_units(self) -> bool:
        return self.cell.shares_units

    def around(self, change: Callable[[Cell], Cell]) -> Cell:
        outside: Any = self
        return replace(outside, cell=self.cell.around(change))

    def initial_carry(self, params: Any, batch_shape: tuple[int, ...] = ()) -> Any:
        return self.cell.initial_carry(params.cell, batch_shape)

    def with_noise(
        self, params: Any, key: Array, length: int, batch_shape: tuple[int, ...] = ()
    ) -> Any:
        return params._replace(
            cell=self.cell.with_noise(params.cell, key, length, batch_shape)
        )

    def of_rows(self, params: Any) -> Any:
        rest = super().of_rows(params)
        return rest._replace(cell=self.cell.of_rows(params.cell))

    def prepare(self, params: Any, xs: Array) -> tuple[Any, Any]:
        inner, inputs = self.cell.prepare(params.cell, xs)
        return params._replace(cell=inner), inputs

    def widen(self, carry: Any) -> Any:
        return self.cell.widen(carry)

    def project(self, params: Any, x: Any) -> Any:
        return self.cell.project(params.cell, x)

    def mix(self, params: Any, carry: Any) -> Any:
        return self.cell.mix(params.cell, carry)

    def gate(self, params: Any, carry: Any, u: Any, r: Any) -> tuple[Any, Array]:
        return self.cell.gate(params.cell, carry, u, r)

    def recur(self, params: Any, carry: Any, u: Any) -> tuple[Any, Array]:
        if self.splits:
            return super().recur(params, carry, u)
        return self.cell.recur(params.cell, carry, u)

    # What a linear cell has, for a wrapper that says it is `linear`.

    def affine(self, params: Any, u: Any) -> Any:
        return _linear(self.cell).affine(params.cell, u)

    def unpack(self, carry: Any) -> Array:
        return _linear(self.cell).unpack(carry)

    def pack(self, h: Array, like: Any) -> Any:
        return _linear(self.cell).pack(h, like)

    def read(self, params: Any, carry: Any, rest: Any) -> Array:
        return _linear(self.cell).read(params.cell, carry, rest)

    def inner_call(self, call: Call) -> tuple[Call, Outer]:
        """For a wrapper whose `core` is its cell's: what its call comes to for the cell,
        and its own (carry, ys) from the cell's."""
        raise NotImplementedError(f"{type(self).__name__} defines no inner_call")

    def gates(self, params: Any, carry: Any, u: Any, r: Any) -> dict[str, Array]:
        return self.cell.gates(params.cell, carry, u, r)


def _linear(cell: Any) -> LinearCell:
    """A `LinearCell`, or a wrapper that has its methods."""
    return cell


def cells_of(cell: Cell) -> Iterator[Cell]:
    """A cell and the cells within it, from the outermost."""
    yield cell
    if isinstance(cell, Wrapper):
        yield from cells_of(cell.cell)

"""The cells that models are made of, by name."""

import inspect
from collections.abc import Callable

import jaxrnn


def _takes_sizes_only(cell: type[jaxrnn.Cell]) -> bool:
    needed = [
        name
        for name, parameter in inspect.signature(cell).parameters.items()
        if parameter.default is parameter.empty
    ]
    return needed == ["input_size", "hidden_size"]


CELLS: dict[str, Callable[..., jaxrnn.Cell]] = {
    name.lower(): cell
    for name, cell in vars(jaxrnn).items()
    if isinstance(cell, type) and issubclass(cell, jaxrnn.Cell) and _takes_sizes_only(cell)
}


def make_cell(name: str, input_size: int, hidden_size: int) -> jaxrnn.Cell:
    """The cell that `name` is in small letters; raises ValueError if it is none."""
    if name.lower() not in CELLS:
        raise ValueError(f"unknown cell {name!r}; known: {', '.join(CELLS)}")
    return CELLS[name.lower()](input_size, hidden_size)

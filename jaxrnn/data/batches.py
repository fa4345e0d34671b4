"""Batches in a row, each made when it is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Batches(Sequence[Batch], Generic[Batch]):
    """A batch `make(item)` for each of the items."""

    items: Sequence[Any]
    make: Callable[[Any], Batch]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Batch:  # pyright: ignore
        return self.make(self.items[number])

"""Batches in a row, each made when it is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Batches(Sequence[Batch], Generic[Batch]):
    """`length` batches, of which number n is `make(n)`."""

    length: int
    make: Callable[[int], Batch]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Batch:  # pyright: ignore
        if not 0 <= number < self.length:
            raise IndexError(f"there are {self.length} batches, and no number {number}")
        return self.make(number)

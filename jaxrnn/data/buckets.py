"""Independent sequences of all lengths: in which order, and padded to which length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np


class Rows(NamedTuple):
    """The examples of one batch, and the length that all of them are padded to."""

    indices: np.ndarray  # [B] int  -1 where the batch has no more examples
    length: int

    def part(self, rows: np.ndarray) -> "Rows":
        """Those numbered `rows`, padded as all of them."""
        return self._replace(indices=self.indices[rows])


@dataclass(frozen=True, eq=False)
class Buckets:
    """The order in which examples of `lengths` `[N]` are learned from.

    An epoch takes every example once. It is shuffled whole, by `seed` and its number; then
    every batch takes examples of one bucket, the lengths between two neighbouring `edges`,
    and is padded to its upper edge, so that as many programs are compiled as there are
    edges. The batch is a pure function of the step. Raises ValueError for a batch size
    below 1, no examples, or an example longer than the last edge.
    """

    lengths: np.ndarray
    batch_size: int
    edges: tuple[int, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or len(self.lengths) < 1:
            raise ValueError(
                "batches need a size of 1 or more and examples, got a size of "
                f"{self.batch_size} and {len(self.lengths)} examples"
            )
        if max(self.lengths) > max(self.edges):
            raise ValueError(
                f"an example of length {max(self.lengths)} is longer than the last edge "
                f"{max(self.edges)}"
            )

    @cached_property
    def steps_per_epoch(self) -> int:
        counts = np.bincount(self._bucket(np.asarray(self.lengths)))
        return int(np.sum(-(-counts // self.batch_size)))

    def batch(self, step: int) -> Rows:
        """The batch of step `step`; epochs follow one another without end."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return _epoch(self, epoch)[position]

    def in_order(self) -> Iterator[Rows]:
        """Every example once, for evaluation."""
        yield from self._cut(np.arange(len(self.lengths)))

    def shuffled(self, epoch: int) -> list[Rows]:
        """The batches of one epoch."""
        draw = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        batches = self._cut(draw.permutation(len(self.lengths)))
        return [batches[n] for n in draw.permutation(len(batches))]

    def _bucket(self, lengths: np.ndarray) -> np.ndarray:
        return np.searchsorted(np.sort(self.edges), lengths)

    def _cut(self, order: np.ndarray) -> list[Rows]:
        buckets = self._bucket(np.asarray(self.lengths)[order])
        batches = []
        for number, edge in enumerate(sorted(self.edges)):
            rows = order[buckets == number]
            for start in range(0, len(rows), self.batch_size):
                indices = np.full(self.batch_size, -1)
                taken = rows[start : start + self.batch_size]
                indices[: len(taken)] = taken
                batches.append(Rows(indices, edge))
        return batches


@lru_cache(maxsize=2)  # an epoch's order is asked for batch by batch
def _epoch(buckets: Buckets, epoch: int) -> list[Rows]:
    return buckets.shuffled(epoch)


def edges_for(
    lengths: np.ndarray, growth: float = 1.3, shortest: int = 4
) -> tuple[int, ...]:
    """Edges that grow by a factor, up to the longest of `lengths`: at most the share
    1 - 1 / growth of a batch is padding."""
    edges, longest = [shortest], int(np.max(lengths))
    while edges[-1] < longest:
        edges.append(min(max(int(edges[-1] * growth), edges[-1] + 1), longest))
    return tuple(edges)


def pad(examples: Sequence[np.ndarray], rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The batch xs `[T, B, ...]` of examples `[t, ...]`, and its mask `[T, B]`.

    Zeros follow the end of each example, and fill rows without one.
    """
    first = np.asarray(examples[0])
    shape = (rows.length, len(rows.indices))
    xs = np.zeros(shape + first.shape[1:], first.dtype)
    mask = np.zeros(shape, bool)
    for row, index in enumerate(rows.indices):
        if index >= 0:
            example = examples[index]
            xs[: len(example), row] = example
            mask[: len(example), row] = True
    return xs, mask

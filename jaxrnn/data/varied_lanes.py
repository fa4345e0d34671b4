"""Batches of varied lengths, still a pure function of the step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from jaxrnn.data.lanes import TokenBatch, TokenLanes

SHORTEST = 5
SPREAD = 5  # the standard deviation of the lengths
HALVED = 0.05  # how often half the length is drawn around
# How far above the length one may be; once in 30,000 it would be further.
REACH = 4 * SPREAD


@dataclass(frozen=True)
class VariedLanes(TokenLanes):
    """`TokenLanes` whose batches have lengths of their own (Merity et al. 2018).

        T ~ Normal(length, 5), once in 20 Normal(length / 2, 5); at least 5, at most
            length + 20

    So the tokens that end a batch, and are no longer learned from by those after them, are
    others in every epoch. Drawn from `seed` and the number of the epoch; the last batch of
    an epoch has what is left. Batches are filled up to length + 20 with steps whose mask is
    False: one compiled program serves them all.
    """

    seed: int = 0

    @property
    def longest(self) -> int:
        return self.length + REACH

    def batch(self, step: int, rows: np.ndarray | None = None) -> TokenBatch[np.ndarray]:
        """The batch of update `step`, all lanes of it or those numbered `rows`; epochs
        follow one another without end."""
        lanes = np.arange(self.lanes) if rows is None else rows
        begin, end = self._place(step)
        times = begin + np.arange(self.longest)[:, None]
        mask = np.broadcast_to(times < end, (self.longest, len(lanes)))
        at = np.where(mask, lanes * self.lane_length + times, 0)
        return TokenBatch(
            inputs=self.tokens[at].astype(np.int32),
            targets=self.tokens[at + 1].astype(np.int32),
            mask=mask.copy(),
            fresh=np.full(len(lanes), begin == 0),
        )

    def _place(self, step: int) -> tuple[int, int]:
        """Where in the lanes a step begins and ends."""
        epoch = 0
        while step >= len(self._ends(epoch)):
            step -= len(self._ends(epoch))
            epoch += 1
        ends = self._ends(epoch)
        return int(ends[step - 1]) if step else 0, int(ends[step])

    @cached_property
    def _ends(self) -> Callable[[int], np.ndarray]:
        """Where the batches of an epoch end."""

        @cache
        def ends(epoch: int) -> np.ndarray:
            draw = np.random.default_rng([self.seed, epoch])
            most = -(-self.lane_length // SHORTEST)
            around = np.where(draw.random(most) < HALVED, self.length / 2, self.length)
            lengths = draw.normal(around, SPREAD).astype(int)
            reached = np.cumsum(np.clip(lengths, SHORTEST, self.longest))
            return np.append(reached[reached < self.lane_length], self.lane_length)

        return ends

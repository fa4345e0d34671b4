"""Batches as a pure function of the step: the position in the data *is* the step."""

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from jaxrnn.data.batches import Batches
from jaxrnn.data.shards import Tokens

A = TypeVar("A")  # np.ndarray on the host, jax.Array on the devices


class TokenBatch(NamedTuple, Generic[A]):
    """Consecutive tokens of every lane, and those that follow each."""

    inputs: A  # [T, B] int32
    targets: A  # [T, B] int32
    mask: A  # [T, B] bool  False past the end of the data
    fresh: A  # [B] bool  True where the lane begins anew: drop the carry


@dataclass(frozen=True)
class TokenLanes:
    """A text cut into `lanes` parts of equal length that are read side by side.

    Batch n of a lane goes on where batch n - 1 ended, so that a carry kept from step to
    step means something (truncated backpropagation through time). `tokens` `[N]` may be
    a memory-mapped array, or those of prepared text: only what a batch needs is read.
    Raises ValueError for lanes or a length below 1 and if the text is too short for one
    batch.
    """

    tokens: np.ndarray | Tokens
    lanes: int
    length: int

    def __post_init__(self) -> None:
        if self.lanes < 1 or self.length < 1:
            raise ValueError(
                "batches need 1 or more lanes of 1 or more tokens, "
                f"got {self.lanes} of {self.length}"
            )
        if self.steps_per_epoch < 1:
            raise ValueError(
                f"{len(self.tokens)} tokens are too few for {self.lanes} lanes of "
                f"{self.length} tokens and one more"
            )

    @property
    def lane_length(self) -> int:
        return (len(self.tokens) - 1) // self.lanes

    @property
    def steps_per_epoch(self) -> int:
        return self.lane_length // self.length

    def batch(self, step: int, rows: np.ndarray | None = None) -> TokenBatch[np.ndarray]:
        """The batch of update `step`, all lanes of it or those numbered `rows`; epochs
        follow one another without end."""
        lanes = np.arange(self.lanes) if rows is None else rows
        position = step % self.steps_per_epoch
        starts = lanes * self.lane_length + position * self.length
        inputs = self.tokens[starts + np.arange(self.length)[:, None]]
        targets = self.tokens[starts + np.arange(1, self.length + 1)[:, None]]
        return TokenBatch(
            inputs=inputs.astype(np.int32),
            targets=targets.astype(np.int32),
            mask=np.ones(inputs.shape, bool),
            fresh=np.full(len(lanes), position == 0),
        )

    def every_token(self) -> Batches[TokenBatch[np.ndarray]]:
        """All tokens but the first as targets, each exactly once, for evaluation."""
        predicted = len(self.tokens) - 1
        lane_length = -(-predicted // self.lanes)
        starts = np.arange(self.lanes) * lane_length
        ends = np.minimum(starts + lane_length, predicted)

        def batch(number: int) -> TokenBatch[np.ndarray]:
            at = starts + number * self.length + np.arange(self.length)[:, None]
            mask = at < ends
            at = np.where(mask, at, 0)
            return TokenBatch(
                inputs=self.tokens[at].astype(np.int32),
                targets=self.tokens[at + 1].astype(np.int32),
                mask=mask,
                fresh=np.full(self.lanes, number == 0),
            )

        return Batches(range(-(-lane_length // self.length)), batch)

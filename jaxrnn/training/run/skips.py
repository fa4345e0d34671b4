"""The steps of a run that are passed over: as asked for, or after going back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Skips:
    """Ranges of steps, both ends included, numbered from 1 as in the log."""

    ranges: tuple[tuple[int, int], ...] = ()
    rollbacks: int = 0

    @classmethod
    def asked(cls, texts: Sequence[str]) -> "Skips":
        """From "FIRST:LAST" each; raises ValueError for anything else."""
        return cls(tuple(map(parse, texts)))

    def covers(self, step: int) -> bool:
        return any(first <= step <= last for first, last in self.ranges)

    def joined_by(self, record: Mapping[str, Any]) -> "Skips":
        """With what a checkpoint tells."""
        ranges = {*self.ranges, *((a, b) for a, b in record.get("skipped", ()))}
        return Skips(tuple(sorted(ranges)), record.get("rollbacks", 0))

    def after_rollback(self, first: int, last: int, rollbacks: int) -> "Skips":
        return replace(self, ranges=(*self.ranges, (first, last)), rollbacks=rollbacks)

    def record(self) -> dict[str, Any]:
        return {
            "skipped": [list(pair) for pair in self.ranges],
            "rollbacks": self.rollbacks,
        }


def parse(text: str) -> tuple[int, int]:
    first, separator, last = text.partition(":")
    if not (separator and first.isdecimal() and last.isdecimal()) or not (
        1 <= int(first) <= int(last)
    ):
        raise ValueError(f"--skip-batches takes FIRST:LAST from 1 upwards, got {text!r}")
    return int(first), int(last)

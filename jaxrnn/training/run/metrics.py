"""`metrics.jsonl`: one JSON object a line, each with the `step` it belongs to."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrnn.training.processes import first_only
from jaxrnn.training.run.events import EventLog


class MetricsLog:
    """Appends rows to a JSON lines file; a resumed run first cuts off what it will redo.

    Rows of training carry `loss` and more for every single step, rows of evaluation
    `valid_loss` and, where the model says something, its `sample`; so the file of a resumed
    run is the file of an uninterrupted one. A number that is not finite is null, as JSON
    knows no other. Several processes all call; the first one writes, and where it cannot
    all of them raise. What it writes goes into `events` too, where there are some.
    """

    def __init__(self, path: Path, events: EventLog | None = None) -> None:
        self.path, self.events = path, events

    def cut_back(self, step: int, *, evaluated: bool = True) -> None:
        """Drops the rows after `step`, and a last line that was never finished.

        Its evaluation goes too, if it is not `evaluated`.
        """
        first_only(lambda: self._cut_back(step, evaluated))

    def write(
        self, rows: Sequence[dict[str, Any]], fleeting: Mapping[str, float] | None = None
    ) -> None:
        """fleeting: of the last row, for the events alone; another start of the run would
        measure other numbers."""
        first_only(lambda: self._append(rows, fleeting or {}))

    def close(self) -> None:
        if self.events is not None:
            self.events.close()

    def _cut_back(self, step: int, evaluated: bool) -> None:
        kept = [
            row
            for row in read_metrics(self.path)
            if row["step"] <= step
            and (evaluated or row["step"] < step or not is_evaluation(row))
        ]
        written = self.path.with_name(f"{self.path.name}.tmp")
        written.write_text("".join(map(as_line, kept)), encoding="utf-8")
        written.replace(self.path)
        if self.events is not None:
            self.events.begin(kept, first=step + evaluated)

    def _append(
        self, rows: Sequence[dict[str, Any]], fleeting: Mapping[str, float]
    ) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(map(as_line, rows))
        if self.events is not None and rows:
            self.events.write([*rows[:-1], {**rows[-1], **fleeting}])


def is_evaluation(row: dict[str, Any]) -> bool:
    return any(name.startswith("valid_") for name in row)


def as_line(row: dict[str, Any]) -> str:
    finite = {
        name: None if isinstance(x, float) and not math.isfinite(x) else x
        for name, x in row.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of the file, none if there is no file; without blank lines, nor a last one
    that was never finished.

    Raises ValueError for another line that is no object of JSON.
    """
    if not path.exists():
        return []
    rows = []
    *lines, _unfinished = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise ValueError(f"line {number} of {path} is not JSON") from None
        if not isinstance(row, dict) or "step" not in row:
            raise ValueError(f"line {number} of {path} is no row with a step")
        rows.append(row)
    return rows

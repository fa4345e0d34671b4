"""`metrics.jsonl`: one JSON object a line, each with the `step` it belongs to."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxrnn.training.processes import first_only


class MetricsLog:
    """Appends rows to a JSON lines file; a resumed run first cuts off what it will redo.

    Rows of training carry `loss` and more for every single step, rows of evaluation
    `valid_loss`; so the file of a resumed run is the file of an uninterrupted one. A
    number that is not finite is null, as JSON knows no other. Several processes all call;
    the first one writes, and where it cannot all of them raise.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_back(self, step: int) -> None:
        """Drops the rows after `step`, and a last line that was never finished."""
        first_only(lambda: self._cut_back(step))

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        first_only(lambda: self._append(rows))

    def _cut_back(self, step: int) -> None:
        kept = [row for row in read_metrics(self.path) if row["step"] <= step]
        written = self.path.with_name(f"{self.path.name}.tmp")
        written.write_text("".join(map(as_line, kept)))
        written.replace(self.path)

    def _append(self, rows: Iterable[dict[str, Any]]) -> None:
        with self.path.open("a") as file:
            file.writelines(map(as_line, rows))


def as_line(row: dict[str, Any]) -> str:
    finite = {
        name: None if isinstance(x, float) and not math.isfinite(x) else x
        for name, x in row.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of the file, none if there is no file; without an unfinished last line.

    Raises ValueError for another line that is not JSON.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise ValueError(f"line {number} of {path} is not JSON") from None
    return rows

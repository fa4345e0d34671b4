"""`metrics.jsonl`: one JSON object a line, each with the `step` it belongs to."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxrnn.training.processes import is_first


class MetricsLog:
    """Appends rows to a JSON lines file; a resumed run first cuts off what it will redo.

    Rows of training carry `loss` and more for every single step, rows of evaluation
    `valid_loss`; so the file of a resumed run is the file of an uninterrupted one. A
    number that is not finite is null, as JSON knows no other. Of several processes the
    first one writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_back(self, step: int) -> None:
        """Drops the rows after `step`, and a last line that was never finished."""
        if not is_first():
            return
        kept = [row for row in read_metrics(self.path) if row["step"] <= step]
        written = self.path.with_suffix(".tmp")
        written.write_text("".join(map(as_line, kept)), encoding="utf-8")
        written.replace(self.path)

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        if is_first():
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(map(as_line, rows))


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

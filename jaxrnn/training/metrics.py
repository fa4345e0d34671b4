"""`metrics.jsonl`: one JSON object a line, each with the `step` it belongs to."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends rows to a JSON lines file; a resumed run first cuts off what it will redo.

    Rows of training carry `loss` and more for every single step, rows of evaluation
    `valid_loss`; so the file of a resumed run is the file of an uninterrupted one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_back(self, step: int) -> None:
        """Drops the rows after `step`, and a last line that was never finished."""
        kept = [row for row in read_metrics(self.path) if row["step"] <= step]
        written = self.path.with_suffix(".tmp")
        written.write_text("".join(json.dumps(row) + "\n" for row in kept))
        written.replace(self.path)

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of the file, none if there is no file; without an unfinished last line."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]

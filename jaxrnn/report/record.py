"""What a run has left in its folder, read without a lock and without a trace."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxrnn.data.files import read_json
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.metrics import read_metrics


@dataclass(frozen=True)
class Record:
    """A run as its files tell it, whether it has ended or still trains."""

    path: Path
    name: str
    config: dict[str, Any]
    rows: list[dict[str, Any]]  # of metrics.jsonl
    starts: list[dict[str, Any]]  # of history.jsonl
    result: dict[str, Any]  # {} before the end

    @classmethod
    def read(cls, path: Path, name: str) -> "Record":
        """Raises ValueError if there is no run, or a file of it cannot be read."""
        run = RunDirectory(path)
        return cls(
            path=run.path,
            name=name,
            config=run.read_config(),
            rows=read_metrics(run.metrics),
            starts=read_metrics(run.history),
            result=read_json(run.result) if run.result.is_file() else {},
        )

    @property
    def step(self) -> int:
        """The last one that is logged."""
        return max((row["step"] for row in self.rows), default=0)

    @property
    def unit(self) -> str:
        return self.result.get("unit", "nats")


def read_records(paths: Sequence[Path]) -> list[Record]:
    """The runs, by names that tell them apart: of their folders, or else whole paths."""
    folders = [RunDirectory(path).path for path in paths]
    names = [folder.name for folder in folders]
    return [
        Record.read(folder, name if names.count(name) == 1 else str(folder))
        for folder, name in zip(folders, names, strict=True)
    ]

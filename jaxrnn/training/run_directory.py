"""A run's folder: what it was asked to do, and the refusal to mix two runs in one."""

import json
from pathlib import Path
from typing import Any

Description = dict[str, Any]


class RunDirectory:
    """The files of a run: all that resuming, evaluating and sampling need."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.result = self.path / "result.json"
        self.picture = self.path / "loss.png"
        self.tokenizer = self.path / "tokenizer.json"

    def read_config(self) -> Description:
        """Raises ValueError if there is no run here."""
        if not self.config.is_file():
            raise ValueError(f"no run at {self.path}: it has no config.json")
        return json.loads(self.config.read_text())

    def enter(self, description: Description, resume: str, free: frozenset[str]) -> bool:
        """Begins the run `description` or goes on with it; returns whether it goes on.

        `resume` "auto" goes on if there is a run and begins else; "never" refuses a run
        that is there, "must" one that is not. Fields in `free` may change between the
        starts of a run, all others must be as they were. Raises ValueError else.
        """
        # As JSON gives it back: tuples are lists, paths strings.
        description = json.loads(json.dumps(description, default=str))
        there = self.config.is_file()
        if there and resume == "never":
            raise ValueError(f"{self.path} holds a run already and --resume is never")
        if not there and resume == "must":
            raise ValueError(f"{self.path} holds no run and --resume is must")
        if there:
            _refuse_changes(self.path, self.read_config(), description, free)
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config, description)
        return there


def write_json(path: Path, content: Any) -> None:
    """Writes at once or not at all."""
    written = path.with_suffix(".tmp")
    written.write_text(json.dumps(content, indent=2) + "\n")
    written.replace(path)


def _refuse_changes(
    path: Path, former: Description, wanted: Description, free: frozenset[str]
) -> None:
    changes = [
        f"{name} was {former.get(name)!r} and is now {wanted.get(name)!r}"
        for name in sorted({*former, *wanted} - free)
        if former.get(name) != wanted.get(name)
    ]
    if changes:
        raise ValueError(
            f"{path} holds a run with another configuration: {'; '.join(changes)}"
        )

"""A run's folder: what it was asked to do, and the refusal to mix two runs in one."""

import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxrnn.training.paths import whole_path

Description = dict[str, Any]


class RunDirectory:
    """The files of a run: all that resuming, evaluating and sampling need."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = whole_path(path)
        self.config = self.path / "config.json"
        self.history = self.path / "history.jsonl"
        self.metrics = self.path / "metrics.jsonl"
        self.events = self.path / "tensorboard"
        self.result = self.path / "result.json"
        self.picture = self.path / "loss.png"
        self.tokenizer = self.path / "tokenizer.json"

    def read_config(self) -> Description:
        """Raises ValueError if there is no run here."""
        if not self.config.is_file():
            raise ValueError(f"no run at {self.path}: it has no config.json")
        try:
            return json.loads(self.config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.config} cannot be read: {error}") from None

    def compare(
        self,
        description: Description,
        resume: str,
        *,
        free: Collection[str] = (),
        allowed: Collection[str] = (),
        before: Mapping[str, Any] = MappingProxyType({}),
        misfit: Callable[[], str] = str,
    ) -> Mapping[str, tuple[Any, Any]]:
        """Whether the run `description` may begin or go on here; returns what changed.

        `resume` "auto" goes on if there is a run and begins else; "never" refuses a run
        that is there, "must" one that is not. Fields in `free` and those `allowed` may
        change between the starts of a run, all others must be as they were; one that the
        run was begun without, by an older version, was as `before` says or else as it is
        now. The changes returned are those allowed: was and is now. Raises ValueError else,
        with the advice to allow them if `misfit` has no reason why that would not do.
        """
        description = as_json_has_it(description)
        there = self.config.is_file()
        former = {**before, **self.read_config()} if there else {}
        if unknown := sorted(set(allowed) - description.keys() - former.keys()):
            raise ValueError(f"--allow-change knows no {', '.join(unknown)}")
        if there and resume == "never":
            raise ValueError(f"{self.path} holds a run already and --resume is never")
        if not there and resume == "must":
            raise ValueError(f"{self.path} holds no run and --resume is must")
        changes = differences(former, description, free)
        if refused := changes.keys() - allowed:
            told = {name: changes[name] for name in refused}
            raise ValueError(self._refusal(told, misfit()))
        return changes

    def enter(
        self, description: Description, files: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Makes the folder that of the run `description`, with the texts `files` in it,
        and the config last: where it is there the run has begun."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_text(self.path / name, content)
        write_json(self.config, as_json_has_it(description))

    def remember(self, event: Mapping[str, Any]) -> None:
        """Adds a line to the history of the run's starts."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        with self.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": now} | dict(event), default=str) + "\n")

    def _refusal(self, changes: Mapping[str, tuple[Any, Any]], misfit: str) -> str:
        told = "; ".join(
            f"{name} was {former!r} and is now {now!r}"
            for name, (former, now) in sorted(changes.items())
        )
        names = " ".join(sorted(changes))
        advice = f"to go on with that one all the same: --allow-change {names}"
        if misfit:
            advice = f"that one cannot go on so, its checkpoint does not fit: {misfit}"
        return (
            f"{self.path} holds a run with another configuration: {told} "
            f"(for a new run: another --run-dir; {advice})"
        )


def as_json_has_it(description: Description) -> Description:
    """With lists for tuples and texts for paths."""
    return json.loads(json.dumps(description, default=str))


def differences(
    former: Description, now: Description, free: Collection[str]
) -> dict[str, tuple[Any, Any]]:
    """The fields that are not free and differ: what they were, and are now."""
    return {
        name: (former[name], now.get(name))
        for name in sorted(former.keys() - set(free))
        if former[name] != now.get(name)
    }


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, content: str) -> None:
    """Writes at once or not at all, and only what is not there already."""
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return
    written = path.with_name(f"{path.name}.tmp")
    with written.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)

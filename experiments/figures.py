"""What trained models came to: a line of JSON each in figures.jsonl, and their tables."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from .markdown import table

FILE = Path(__file__).with_name("figures.jsonl")
COLUMNS = {
    "what": "",
    "published": "published",
    "here": "here",
    "difference": "difference",
    "parameters": "parameters",
    "minutes": "minutes",
    "hardware": "on",
    "commit": "commit",
}


@dataclass(frozen=True)
class Figure:
    """What a run came to, beside what is published."""

    task: str
    run: str  # its folder's name, which is that of its preset or begins with it
    measure: str  # such as "perplexity"
    here: float
    published: float | None = None
    source: str = ""  # of what is published
    parameters: int | None = None
    minutes: float | None = None
    hardware: str = ""
    commit: str = ""
    note: str = ""  # what the name of the run does not say

    @property
    def name(self) -> tuple[str, str, str]:
        return self.task, self.run, self.note

    def cells(self) -> dict[str, str]:
        """By column of the table, as people read it."""
        cells = {"what": f"`{self.run}`", "here": f"**{self.here:g}**"}
        if self.note:
            cells["what"] += f" {self.note}"
        if self.published is not None:
            cells["published"] = f"{self.published:g} ({self.source})"
            cells["difference"] = f"{self.here - self.published:+.3g}"
        if self.parameters is not None:
            cells["parameters"] = f"{self.parameters:,}"
        if self.minutes is not None:
            cells["minutes"] = f"{self.minutes:.1f}"
        return cells | {"hardware": self.hardware, "commit": self.commit}


def told(figures: Iterable[Figure]) -> str:
    """In Markdown, a table under a heading for each task."""
    parts = []
    for (task, measure), group in groupby(figures, attrgetter("task", "measure")):
        rows = ([f.cells().get(name, "") for name in COLUMNS] for f in group)
        heads = COLUMNS | {"here": f"here, {measure}"}
        parts += [f"### {task}", table(heads.values(), rows)]
    return "\n\n".join(parts)


def read(file: Path) -> list[Figure]:
    return [Figure(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]


def keep(figures: Iterable[Figure], file: Path) -> None:
    """In place of those of the same task, run and note, else as the last of their task."""
    kept = read(file)
    for figure in figures:
        same = [n for n, other in enumerate(kept) if other.name == figure.name]
        task = [n for n, other in enumerate(kept) if other.task == figure.task]
        if same:
            kept[same[0]] = figure
        else:
            kept.insert(task[-1] + 1 if task else len(kept), figure)
    lines = (json.dumps(without_empty(figure), ensure_ascii=False) for figure in kept)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def without_empty(figure: Figure) -> dict[str, Any]:
    return {
        name: value for name, value in asdict(figure).items() if value not in (None, "")
    }

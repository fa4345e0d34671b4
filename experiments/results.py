"""Sets trained runs beside the published figures, as a table in Markdown.

    python -m experiments.results                                    # what is kept
    python -m experiments.results runs/* [--picture learning.png]
    python -m experiments.results runs/ptb-* --keep "words of Penn Treebank, test"

Without runs, the tables of `experiments/README.md`: of the figures kept in figures.jsonl.
Of runs, a line for every folder that has a result: perplexity of words, bits of characters,
percent of right answers, else nats. What is published is known by the name of the folder,
which is that of the preset unless told otherwise; a run may be `NAME-...`, such as one of
another seed. `--picture` draws the validation figure of each run by the share of its steps.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from jaxrnn.diagnostics.plots import new_figure, save
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.metrics import read_metrics

from .figures import FILE, Figure, keep, read, told
from .markdown import table


class Published(NamedTuple):
    test: float
    source: str
    valid: float | None = None


PUBLISHED = {
    "ptb-small": Published(114.5, "Zaremba et al. 2014", 120.7),
    "ptb-medium": Published(82.7, "Zaremba et al. 2014", 86.2),
    "ptb-large": Published(78.4, "Zaremba et al. 2014", 82.2),
    "ptb-small-tied": Published(112.4, "Press & Wolf 2017"),
    "ptb-large-tied": Published(74.3, "Press & Wolf 2017", 77.7),
    "pytorch-200": Published(87.17, "pytorch/examples"),
    "pytorch-650": Published(75.96, "pytorch/examples"),
    "cs287": Published(73.27, "srush/cs287", 76.18),
    "melis-10m": Published(59.6, "Melis et al. 2018", 61.8),
    "awd-lstm": Published(58.8, "Merity et al. 2018", 61.2),
    "mogrifier": Published(50.1, "Melis et al. 2020", 51.4),
    "ptb-char": Published(1.312, "Ha et al. 2016", 1.347),
    "ptb-char-layernorm": Published(1.267, "Ha et al. 2016", 1.300),
    "wikitext2-200": Published(114.95, "pytorch/examples, run by nlpia2", 123.27),
    "wikitext2-650": Published(93.90, "GluonNLP", 98.96),
    "bai-jsb-gru": Published(8.43, "Bai et al. 2018"),
    "bai-jsb-lstm": Published(8.45, "Bai et al. 2018"),
    "bai-jsb-tanh": Published(8.91, "Bai et al. 2018"),
    "bai-nottingham-gru": Published(3.46, "Bai et al. 2018"),
    "bai-nottingham-lstm": Published(3.29, "Bai et al. 2018"),
    "bai-nottingham-tanh": Published(4.05, "Bai et al. 2018"),
}


MEASURES = {
    "nats/character": "bits",
    "nats/byte": "bits",
    "nats/word": "perplexity",
    "nats/token": "perplexity",
}


@dataclass(frozen=True)
class Options:
    """Sets trained runs beside the published figures, as a table in Markdown."""

    run_dirs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    picture: Path | None = None
    """Where to draw the validation figures of the runs as they learned."""
    keep: str | None = None
    """Keep the figures of the runs in figures.jsonl, as those of this task."""
    hardware: str = ""
    """What they were trained on, to be kept."""
    commit: str = ""
    """Of the code that trained them, to be kept."""


def published(name: str) -> Published | None:
    """That of the longest name which the run's begins with."""
    words = name.split("-")
    names = ("-".join(words[:count]) for count in range(len(words), 0, -1))
    return next((PUBLISHED[known] for known in names if known in PUBLISHED), None)


def figure(result: dict[str, Any], split: str) -> float | None:
    """What was measured on a split, as people of the field read it."""
    if f"{split}_accuracy" in result:
        return 100 * result[f"{split}_accuracy"]
    loss, unit = result.get(f"{split}_loss"), result["unit"]
    if loss is None or unit not in MEASURES:
        return loss
    return math.log2(math.e) * loss if MEASURES[unit] == "bits" else math.exp(loss)


def measure_of(result: dict[str, Any]) -> str:
    unit: str = result["unit"]
    return "percent" if "test_accuracy" in result else MEASURES.get(unit, unit)


def row(folder: Path) -> dict[str, str]:
    """A line of the table. Raises FileNotFoundError for a run that is not done."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    starts = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    start = json.loads(starts[-1])
    test, valid = figure(result, "test"), figure(result, "valid")
    cells = {"run": f"`{folder.name}`", "parameters": f"{result['parameters']:,}"}
    cells |= {"test": shown(test), "validation": shown(valid)}
    if known := published(folder.name):
        cells["published"] = f"{shown(known.test)} ({known.source})"
        cells["difference"] = "" if test is None else f"{test - known.test:+.3g}"
    cells["in"] = measure_of(result)
    cells["minutes"] = f"{result['seconds'] / 60:.1f}"
    return cells | {"on": f"{start['devices']}, JAX {start['versions']['jax']}"}


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def beside(rows: Sequence[dict[str, str]]) -> str:
    columns = ["run", "parameters", "published", "test", "difference", "validation", "in"]
    columns += ["minutes", "on"]
    return table(columns, ([row.get(name, "") for name in columns] for row in rows))


def to_keep(folder: Path, options: Options) -> Figure:
    """What `figures.jsonl` keeps of a run: the test figure, or that of validation."""
    assert options.keep is not None
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    here = figure(result, "test" if "test_loss" in result else "valid")
    if here is None:
        raise ValueError(f"{folder} was measured on nothing")
    known = published(folder.name)
    return Figure(
        task=options.keep,
        run=folder.name,
        measure=measure_of(result),
        here=round(here, 4),
        published=None if known is None else known.test,
        source="" if known is None else known.source,
        parameters=result["parameters"],
        minutes=round(result["seconds"] / 60, 1),
        hardware=options.hardware,
        commit=options.commit,
    )


def draw(folders: Sequence[Path], picture: Path) -> None:
    """The validation figures by share of the steps, a curve a run."""
    units = {json.loads((f / "result.json").read_text())["unit"] for f in folders}
    panels = {unit: number for number, unit in enumerate(sorted(units))}
    drawn, (axes,) = new_figure(columns=len(panels))
    for folder in folders:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        lines = [
            line for line in read_metrics(folder / "metrics.jsonl") if "valid_loss" in line
        ]
        values = [figure(result | line, "valid") for line in lines]
        panel = axes[panels[result["unit"]]]
        panel.plot(
            [line["step"] / result["step"] for line in lines], values, label=folder.name
        )
    for unit, number in panels.items():
        axes[number].set(xlabel="share of the steps")
        axes[number].set_ylabel(f"validation, {MEASURES.get(unit, unit)}")
        axes[number].legend(fontsize="small")
    save(drawn, picture)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    with refusals():
        if not options.run_dirs:
            print(told(read(FILE)))
            return
        done = [folder for folder in options.run_dirs if (folder / "result.json").is_file()]
        if not done:
            raise ValueError(
                f"no folder of a finished run among {', '.join(map(str, options.run_dirs))}"
            )
        print(beside([row(folder) for folder in done]))
        if options.keep is not None:
            keep([to_keep(folder, options) for folder in done], FILE)
        if options.picture is not None:
            draw(done, options.picture)


if __name__ == "__main__":
    terminal.run(main)

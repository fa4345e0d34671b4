"""Shows which networks keep a state over which lengths, as a table and a picture.

    python -m experiments.state_tracking.report runs/state_tracking/*

The table has the share of right answers at the lengths beyond those trained on, of the best
seed and, where there are several, the mean of all; the picture the best seed's by length.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxrnn.diagnostics.plots import new_figure, save
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals

from .. import markdown
from .config import Config
from .run import Answered, ask

# (task, network): the runs of all seeds
Runs = dict[tuple[str, str], list[Answered]]


@dataclass(frozen=True)
class Options:
    """Shows which networks keep a state over which lengths."""

    run_dirs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    picture: Path = Path("state_tracking.png")


def name_of(config: Config) -> str:
    """The network in words, the same for all tasks and seeds."""
    if config.cell != "deltanet":
        return config.cell
    reflections = f", {config.householders} a step" if config.householders > 1 else ""
    return f"deltanet {config.eigenvalues}{reflections}"


def share_right(answered: Answered) -> float:
    return answered.result["test_accuracy"]


def table(runs: Runs, tasks: list[str], networks: list[str]) -> str:
    def cell(task: str, network: str) -> str:
        shares = [share_right(answered) for answered in runs.get((task, network), [])]
        if not shares:
            return "not run"
        best = f"{100 * max(shares):.1f}"
        return f"{best} ({100 * np.mean(shares):.1f})" if len(shares) > 1 else best

    rows = ([network, *(cell(task, network) for task in tasks)] for network in networks)
    return markdown.table(["network", *tasks], rows)


def draw(runs: Runs, tasks: list[str], networks: list[str], picture: Path) -> None:
    figure, axes = new_figure(-(-len(tasks) // 2), min(len(tasks), 2))
    for task, panel in zip(tasks, axes.flat, strict=False):
        for number, network in enumerate(networks):
            if found := runs.get((task, network)):
                best = max(found, key=share_right)
                lengths = 1 + np.flatnonzero(np.isfinite(best.accuracy))
                panel.plot(
                    lengths,
                    best.accuracy[lengths - 1],
                    color=f"C{number % 10}",
                    linestyle="-" if number < 10 else "--",
                    label=network,
                )
                panel.axvline(best.config.length, color="gray", linewidth=0.5)
        panel.set(title=task, xlabel="length", ylabel="share right", ylim=(0, 1.05))
        panel.grid(alpha=0.3)
    for panel in axes.flat[len(tasks) :]:
        panel.set_axis_off()
    lines = {line.get_label(): line for panel in axes.flat for line in panel.get_lines()}
    named = {name: lines[name] for name in networks}  # not every task has them all
    figure.legend(named.values(), named, loc="outside right upper")
    save(figure, picture)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    runs: Runs = defaultdict(list)
    with refusals():
        for path in options.run_dirs:
            answered = ask(path)
            runs[answered.config.task, name_of(answered.config)].append(answered)
        tasks = list(dict.fromkeys(task for task, _ in runs))
        networks = list(dict.fromkeys(network for _, network in runs))
        draw(runs, tasks, networks, options.picture)
    print(table(runs, tasks, networks))
    print(options.picture)


if __name__ == "__main__":
    terminal.run(main)

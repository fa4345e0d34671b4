"""Trains every network on every task, one run after the other.

    python -m experiments.state_tracking.grid --minutes 60
    python -m experiments.state_tracking.report runs/state_tracking/*

Each run is one of `experiments.state_tracking.train`, in a folder of its own. The same
command goes on where it stopped: a run that came to its end is left alone. Those of the
first seed come first, so that what is there makes a whole table.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from jaxrnn.training.run import command, terminal

from .config import PRESETS, Config, TaskName
from .problem import make_problem

# Nonlinear recurrences alone, in one layer; linear ones and attention in two.
NETWORKS: dict[str, dict[str, Any]] = {
    "elman": {},
    "lstm": {},
    "gru": {},
    "slstm": {},
    "mingru": {"layers": 2},
    "minlstm": {"layers": 2},
    "lru": {"layers": 2},
    "mlstm": {"layers": 2},
    "deltanet": {"layers": 2},
    "deltanet-negative": {"cell": "deltanet", "eigenvalues": "[-1, 1]", "layers": 2},
    "deltanet-product": {
        "cell": "deltanet",
        "eigenvalues": "[-1, 1]",
        "householders": 4,
        "layers": 2,
    },
    "transformer": {"layers": 2, "learning_rate": 1e-3},
}
TASKS: tuple[TaskName, ...] = ("parity", "cycle-navigation", "modular-arithmetic", "a5")


@dataclass(frozen=True)
class Options:
    """Trains every network on every task, one run after the other."""

    runs: Path = Path("runs/state_tracking")
    """The folder of the runs' folders."""
    minutes: float = 60.0
    """Begin no run after so many."""
    tasks: tuple[TaskName, ...] = TASKS
    networks: tuple[str, ...] = tuple(NETWORKS)
    seeds: int = 3
    steps: int = 3000
    hidden_size: int = 64
    batch_size: int = 64


def configs(options: Options) -> Iterator[Config]:
    """Raises ValueError for a network that is none."""
    for name in options.networks:
        if name not in NETWORKS:
            known = ", ".join(NETWORKS)
            raise ValueError(f"unknown network {name!r}; known: {known}")
    for seed in range(options.seeds):
        for task in options.tasks:
            for name in options.networks:
                yield replace(
                    PRESETS[task][1],
                    **{"cell": name} | NETWORKS[name],
                    run_dir=options.runs / f"{task}-{name}-{seed}",
                    seed=seed,
                    steps=options.steps,
                    hidden_size=options.hidden_size,
                    batch_size=options.batch_size,
                    eval_every=500,
                    checkpoint_every=500,
                    log_every=500,
                )


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    with command.refusals():
        everything = list(configs(options))
    end = time.monotonic() + 60 * options.minutes
    for number, config in enumerate(everything):
        if (config.run_dir / "result.json").exists():
            continue
        if time.monotonic() > end:
            print(f"{len(everything) - number} runs are left: the same command goes on")
            return
        print(f"run {number + 1} of {len(everything)}: {config.run_dir.name}")
        command.train(config, lambda c=config: c.make_trainer(make_problem(c)))


if __name__ == "__main__":
    terminal.run(main)

"""Trains networks of all kinds on the same text for the same time, and compares them.

    python -m experiments.language_model.equal_time --data tinyshakespeare/input.txt

The time is that of one processor core at work on training steps, compilation and
evaluations left out; waiting for other programs does not count. It is measured on a few
steps of each network before the first run of it, and gives the number of steps. The first
seed learns at every rate, the others at its best one.

Each run is one of `experiments.language_model.train`, in a folder of its own. The same
command goes on where it stopped, and then prints the table and draws the picture.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from jaxrnn.diagnostics.plots import new_figure, save
from jaxrnn.training import Trainer
from jaxrnn.training.run import command, terminal
from jaxrnn.training.run.metrics import read_metrics
from jaxrnn.training.run.reopen import read_options

from ..markdown import table
from .config import PRESETS, Config
from .problem import make_problem

# Linear recurrences in residual blocks with dense layers, as they are used.
BLOCK = {"block": "pre-norm", "embedding_size": 128, "hidden_size": 128}
# Some 350,000 parameters each.
NETWORKS: dict[str, dict[str, Any]] = {
    "elman": {"hidden_size": 530},
    "gru": {"hidden_size": 300},
    "lstm": {"hidden_size": 256},
    "layernormlstm": {"hidden_size": 256},
    "slstm": {"hidden_size": 256},
    "mogrifierlstm": {"hidden_size": 235, "mogrifier_rank": 32},
    "mingru": {"layers": 3, "feed_forward": 300, **BLOCK},
    "minlstm": {"layers": 3, "feed_forward": 236, **BLOCK},
    "lru": {"layers": 3, "feed_forward": 108, **BLOCK},
    "rglru": {"layers": 3, "feed_forward": 300, **BLOCK},
    "mlstm": {"layers": 2, "feed_forward": 388, **BLOCK},
    "gateddeltanet": {"layers": 2, "feed_forward": 453, **BLOCK},
    "transformer": {"layers": 3, "hidden_size": 96},
}
MEASURED = 3.0  # seconds of steps, after a few to get going
COLUMNS = "network", "parameters", "rate", "steps", "ms a step", "mean", "seeds"


@dataclass(frozen=True)
class Options:
    """Trains networks of all kinds on the same text for the same time."""

    data: Path
    """A text file, as of `experiments.language_model.train`."""
    runs: Path = Path("runs/equal_time")
    """The folder of the runs' folders."""
    seconds: float = 100.0
    """Of one core, for the steps of each run."""
    networks: tuple[str, ...] = tuple(NETWORKS)
    seeds: int = 3
    learning_rates: tuple[float, ...] = (3e-3, 1e-2)
    picture: Path = Path("equal_time.png")


def on_one_core() -> None:
    """Keeps this process on the last of its cores; JAX counts them when it starts.

    Raises ValueError where the system does not let a process choose.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("equal time needs Linux, where a process can keep to one core")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def config_of(options: Options, name: str, rate: float, seed: int) -> Config:
    """All but the steps. Raises ValueError for a network that is none."""
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    return replace(
        PRESETS["char"][1],
        **{"cell": name} | NETWORKS[name],
        data=options.data,
        run_dir=options.runs / f"{name}-{rate:g}-{seed}",
        learning_rate=rate,
        seed=seed,
        report=False,
        sample_length=0,
    )


def pace_of(options: Options, name: str) -> float:
    """The seconds of a step, measured once and kept beside the runs."""
    kept = options.runs / f"{name}.json"
    if kept.exists():
        return read(kept)["seconds_per_step"]
    config = config_of(options, name, options.learning_rates[0], 0)
    pace = seconds_per_step(config.make_trainer(make_problem(config)))
    options.runs.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"seconds_per_step": pace}) + "\n", encoding="utf-8")
    return pace


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def seconds_per_step(trainer: Trainer) -> float:
    """Of one core: the median, of steps that are done one by one."""
    state, taken, step = trainer.init(0), [], 0
    while len(taken) < 8 or sum(taken) < MEASURED:
        begun = time.process_time()
        state, _ = trainer.step(state, trainer.batch(step))
        jax.block_until_ready(state)
        step += 1
        if step > 3:
            taken.append(time.process_time() - begun)
    return float(np.median(taken))


def trained(options: Options, name: str, rate: float, seed: int) -> float:
    """The validation loss that a run comes to; one that came to its end is left alone.

    Raises ValueError if that one had another time.
    """
    config = config_of(options, name, rate, seed)
    result = config.run_dir / "result.json"
    steps = max(1, round(options.seconds / pace_of(options, name)))
    if not result.exists():
        config = replace(
            config,
            steps=steps,
            eval_every=max(1, steps // 4),
            checkpoint_every=max(1, steps // 2),
        )
        print(f"\n{config.run_dir.name}: {steps} steps")
        command.train(config, lambda: config.make_trainer(make_problem(config)))
    ended = read(result)
    if ended["step"] != steps:
        raise ValueError(
            f"{config.run_dir} was trained for {ended['step']} steps, and "
            f"{options.seconds:g} seconds are {steps}: another time needs other --runs"
        )
    return ended["valid_loss"]


def compared(options: Options, name: str) -> list[Path]:
    """The runs of a network at its best rate, a seed each."""
    losses = {rate: trained(options, name, rate, 0) for rate in options.learning_rates}
    best = min(losses, key=lambda rate: losses[rate])
    for seed in range(1, options.seeds):
        trained(options, name, best, seed)
    return [config_of(options, name, best, seed).run_dir for seed in range(options.seeds)]


def losses_of(folders: Sequence[Path]) -> list[float]:
    return [read(folder / "result.json")["valid_loss"] for folder in folders]


def row(options: Options, name: str, folders: Sequence[Path]) -> list[str]:
    """A line of the table."""
    result, losses = read(folders[0] / "result.json"), losses_of(folders)
    return [
        f"`{name}`",
        f"{result['parameters']:,}",
        f"{read_options(folders[0], Config).learning_rate:g}",
        f"{result['step']:,}",
        f"{1000 * pace_of(options, name):.1f}",
        f"**{np.mean(losses):.3f}**",
        ", ".join(f"{loss:.3f}" for loss in losses),
    ]


def draw(options: Options, found: dict[str, list[Path]]) -> None:
    """The validation loss by time, the mean of the seeds."""
    figure, ((axes,),) = new_figure()
    for number, (name, folders) in enumerate(found.items()):
        runs = [read_metrics(folder / "metrics.jsonl") for folder in folders]
        measured = [[r for r in rows if "valid_loss" in r] for rows in runs]
        pace = pace_of(options, name)
        axes.plot(
            [row["step"] * pace for row in measured[0]],
            np.mean([[row["valid_loss"] for row in rows] for rows in measured], axis=0),
            marker=".",
            color=f"C{number % 10}",
            linestyle="-" if number < 10 else "--",
            label=name,
        )
    axes.set(xlabel="seconds of one core", ylabel="validation, nats a character")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    save(figure, options.picture)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    with command.refusals():
        on_one_core()
        for name in options.networks:
            config_of(options, name, 0.0, 0)
        found = {name: compared(options, name) for name in options.networks}
    ranked = sorted(found, key=lambda name: np.mean(losses_of(found[name])))
    print(table(COLUMNS, [row(options, name, found[name]) for name in ranked]))
    draw(options, found)
    print(options.picture)


if __name__ == "__main__":
    terminal.run(main)

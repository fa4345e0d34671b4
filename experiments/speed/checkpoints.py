"""What saving costs: the slow-down of training, and the time per 100 MB of a state.

python -m experiments.speed.checkpoints --data tinyshakespeare/input.txt
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import jax
import numpy as np
import tyro

from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.store.digest import digest_tree
from jaxrnn.training.store.saved_step import read_step

from ..language_model.config import PRESETS
from ..language_model.problem import make_problem


@dataclass(frozen=True)
class Options:
    """Times the preset `char` with and without saving, in turn, and a state of 100 MB."""

    data: Path | None = None
    """A text; Python's standard library without it."""
    every: int = 50
    """Steps between saves."""
    rounds: int = 20


def main() -> None:
    options = tyro.cli(Options)
    with refusals(), tempfile.TemporaryDirectory() as folder:
        slow_down(options, Path(folder) / "char")
        per_100_mb(Path(folder) / "large")


def slow_down(options: Options, run_dir: Path) -> None:
    """Blocks of steps, in turn with a save at their start and without one."""
    config = replace(PRESETS["char"][1], data=options.data)
    trainer = config.make_trainer(make_problem(config))
    state, step = trainer.init(config.seed), 0

    def block(save: bool) -> float:
        nonlocal state, step
        began = time.perf_counter()
        if save:
            store.save(step, state, record={"seconds": 0.0})
        for _ in range(options.every):
            state, _ = trainer.step(state, trainer.batch(step))
            step += 1
        jax.block_until_ready(state)
        taken = time.perf_counter() - began
        store.wait()  # what goes on beyond the block is not counted against the next
        return taken

    with CheckpointStore(run_dir) as store:
        block(save=True)
        ratios, seconds = [], []
        for number in range(options.rounds):
            order = (True, False) if number % 2 else (False, True)
            taken = {save: block(save) for save in order}
            ratios.append(taken[True] / taken[False])
            seconds.append(taken[False])
    low, middle, high = (100 * (np.quantile(ratios, q) - 1) for q in (0.25, 0.5, 0.75))
    print(
        f"char, a save every {options.every} steps of "
        f"{1e3 * median(seconds) / options.every:.1f} ms: {middle:+.1f} % (median of "
        f"{options.rounds} pairs, quartiles {low:+.1f} and {high:+.1f})"
    )


def per_100_mb(run_dir: Path) -> None:
    draw = np.random.default_rng(0)
    state = {f"layer{n}": draw.random((1250, 2000), np.float32) for n in range(10)}
    with CheckpointStore(run_dir) as store:

        def save(step: int) -> None:
            store.save(step, state)

        steps = iter(range(100))
        times = {
            "digest": timed(lambda: digest_tree(state)),
            "save, until training goes on": timed(lambda: save(next(steps)), store.wait),
            "save, until it is on disk": timed(lambda: (save(next(steps)), store.wait())),
        }
        newest = run_dir / "checkpoints" / str(store.steps()[-1])
        times["verify: read, and check every digest"] = timed(lambda: read_step(newest))
    for what, seconds in times.items():
        print(f"100 MB, {what}: {seconds:.2f} s (median of 5)")


def timed(act: Callable[[], object], after: Callable[[], object] = lambda: None) -> float:
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
        after()
    return median(taken)


if __name__ == "__main__":
    terminal.run(main)

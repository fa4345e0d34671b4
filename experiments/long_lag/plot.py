"""Draws how runs of several lags and cells went.

    for lag in 20 50 100; do for cell in lstm gru elman; do
        python -m experiments.long_lag.train order2 --cell $cell --lag $lag \\
            --run-dir runs/order2-$cell-$lag
    done; done
    python -m experiments.long_lag.plot runs/order2-*

Three pictures side by side: the share of trials that met the criterion and the sequences
they needed, over the lag, and for the longest lag how far back the answer's gradient
reaches after training.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from jaxrnn import Cell
from jaxrnn.diagnostics import gradient_by_lag
from jaxrnn.diagnostics.plots import new_figure, plot_by_lag, save
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals

from .network import Network
from .run import Trained, load
from .tasks import Task
from .trials import success

SEQUENCES = 8  # whose gradients are averaged


@dataclass(frozen=True)
class Options:
    """Draws success, sequences needed and reach of the gradient against the lag."""

    run_dirs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    picture: Path = Path("long_lag.png")


def reach(task: Task, cell: Cell, params: Any, needed: np.ndarray) -> np.ndarray:
    """|| d y / d carry || by lag `[T]`, y the last answer of the trial that was done
    first, or of the first trial; the mean over sequences. The params are all trials'."""
    best = int(np.argmin(np.where(needed < 0, np.iinfo(np.int32).max, needed)))
    params = jax.tree.map(lambda leaf: leaf[best], params)
    examples = task.test_set(jax.random.key(0), jnp.int32(best), SEQUENCES)
    xs = jnp.moveaxis(jnp.asarray(examples.xs), 0, 1)
    # A sequence ends at its last scored step.
    scored = jnp.moveaxis(jnp.asarray(examples.scored), 0, 1)
    mask = jnp.cumsum(scored[::-1].astype(jnp.int32), axis=0)[::-1] > 0
    return np.asarray(gradient_by_lag(cell, params, xs, mask=mask))


def draw(run_dirs: tuple[Path, ...], picture: Path) -> None:
    """Raises ValueError if a folder holds no run, or two runs of one cell at one lag."""
    runs: dict[str, dict[int, Trained]] = defaultdict(dict)
    for path in run_dirs:
        run = load(path)
        cell, lag = run.config.cell, run.config.lag
        if lag in runs[cell]:
            raise ValueError(f"{path} is a second run of {cell} at lag {lag}")
        runs[cell][lag] = run

    figure, ((left, middle, right),) = new_figure(1, 3)
    reaches = {}
    for name, by_lag in sorted(runs.items()):
        lags = sorted(by_lag)
        went = [success(by_lag[lag].needed) for lag in lags]
        shares = [figures["solved"] for figures in went]
        sequences = [figures.get("sequences", np.nan) for figures in went]
        left.plot(lags, shares, "o-", label=name)
        middle.plot(lags, sequences, "o-", label=name)
        longest = by_lag[lags[-1]]
        if isinstance(longest.network, Network):
            reaches[name] = reach(
                longest.task, longest.network.cell, longest.weights.cell, longest.needed
            )
    left.set(xlabel="lag", ylabel="share of trials solved", ylim=(-0.05, 1.05))
    middle.set(xlabel="lag", ylabel="sequences needed, mean", yscale="log")
    for axes in (left, middle):
        axes.grid(alpha=0.3)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside upper left", ncols=len(runs)
    )
    plot_by_lag(right, reaches)
    save(figure, picture)


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        draw(options.run_dirs, options.picture)
    print(options.picture)


if __name__ == "__main__":
    terminal.run(main)

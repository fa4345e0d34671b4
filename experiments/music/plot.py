"""Draws how far back trained models of music look.

    python -m experiments.music.plot runs/music-chung-tanh runs/music-chung-gru \\
        runs/music-chung-lstm

Two pictures side by side, a curve a run: how much the prediction of a frame depends on the
state so many frames before, on test pieces; and how long each unit of the first layer
remembers, where the cell has gates.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import Array

from jaxrnn import Stack
from jaxrnn.diagnostics import gradient_by_lag, horizons
from jaxrnn.diagnostics.plots import draw_memory
from jaxrnn.models import SequenceModel
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals

from .pieces import Pieces
from .run import load


@dataclass(frozen=True)
class Options:
    """Draws how far back trained models of music look."""

    run_dirs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    frames: int = 100
    """Of each test piece that has more, the last ones."""
    picture: Path = Path("music.png")


def endings(pieces: Pieces, frames: int) -> Array:
    """`[frames + 1, N, 88]` of the pieces long enough; raises ValueError if none is."""
    long_enough = [piece[-frames - 1 :] for piece in pieces if len(piece) > frames]
    if not long_enough:
        longest = max(map(len, pieces)) - 1
        raise ValueError(f"frames must be {longest} or fewer, got {frames}")
    return jnp.asarray(np.stack(long_enough, axis=1), jnp.float32)


def reach(model: SequenceModel, heard: Array) -> Array:
    """`[T, N]` by lag: the gradient of the nats of the last frame by each state before."""
    layers = Stack(tuple(layer.recurrence for layer in model.layers))
    params = tuple(layer.arrays() for layer in model.layers)

    def nats(ys: Array) -> Array:
        logits = model.output(ys[-1])
        return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, heard[-1]))

    return gradient_by_lag(layers, params, heard[:-1], nats)


def draw(run_dirs: tuple[Path, ...], frames: int, picture: Path) -> None:
    """Raises ValueError if a folder holds no run."""
    lags, memories = {}, {}
    for path in run_dirs:
        model, splits = load(path)
        heard = endings(splits["test"], frames)
        lags[path.name] = reach(model, heard)
        first = model.layers[0]
        memories[path.name] = horizons(first.recurrence, first.arrays(), heard[:-1])
    draw_memory(lags, memories, picture)


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        draw(options.run_dirs, options.frames, options.picture)
    print(options.picture)


if __name__ == "__main__":
    terminal.run(main)

"""What every program of the probes is given."""

from typing import Any

import jax
import numpy as np

import jaxrnn

CELLS = {"lstm": jaxrnn.LSTM, "gru": jaxrnn.GRU}


def inputs(kind: str, size: int, batch: int, length: int) -> tuple[Any, Any, Any, Any]:
    """cell, params, xs and ys_bar in float32, as NumPy: the same for every program."""
    cell = CELLS[kind](size, size)
    random = np.random.default_rng(0)

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * random.normal(size=shape)).astype(np.float32)

    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: draw(*leaf.shape, scale=size**-0.5), shapes)
    return cell, params, draw(length, batch, size), draw(length, batch, size)

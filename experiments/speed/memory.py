"""What the gradient through a long sequence takes of memory and time: `checkpoint_every`.

    python -m experiments.speed.memory --length 16384 --every 64 128 256

The memory is XLA's own account of the compiled program, beside its arguments and outputs;
the times are medians of rounds in turn. The loss reads the last output of all, so that
nothing of the length has to be kept but what the gradient needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import tyro
from jax import Array

import jaxrnn
from jaxrnn.training.run import command, terminal

from .rivals import compare, show

CELLS = {"lstm": jaxrnn.LSTM, "gru": jaxrnn.GRU}


@dataclass(frozen=True)
class Options:
    """What the gradient through a long sequence takes of memory and time."""

    cell: Literal["lstm", "gru"] = "lstm"
    length: int = 16_384
    batch_size: int = 4
    hidden_size: int = 256
    every: tuple[int, ...] = (32, 64, 128, 256)
    rounds: int = 3


def loss(cell: jaxrnn.Cell, every: int | None, params: Any, xs: Array) -> Array:
    _, ys = jaxrnn.unroll(cell, params, xs, checkpoint_every=every)
    return jnp.sum(ys[-1] ** 2)


def compiled(options: Options, every: int | None) -> tuple[Callable[[], Any], float]:
    """The gradient by the parameters, and the MiB that its program needs beside them."""
    cell = CELLS[options.cell](options.hidden_size, options.hidden_size)
    params = cell.init(jax.random.key(0))
    shape = options.length, options.batch_size, options.hidden_size
    xs = jax.random.normal(jax.random.key(1), shape)
    gradient = jax.jit(jax.grad(partial(loss, cell, every))).lower(params, xs).compile()
    account = gradient.memory_analysis()
    assert account is not None, "XLA gives no account of its memory here"
    needed = account.temp_size_in_bytes / 2**20
    return lambda: jax.block_until_ready(gradient(params, xs)), needed


def main() -> None:
    with command.refusals():
        options = tyro.cli(Options, description=__doc__)
        programs, needed = {}, {}
        for every in (None, *options.every):
            name = "plain" if every is None else f"every {every}"
            programs[name], needed[name] = compiled(options, every)
    medians = compare(programs, options.rounds)
    for name, size in needed.items():
        part = size / needed["plain"]
        print(f"{name:12} {size:9.1f} MiB, {part:.3f} of the plain one")
    show(medians, "steps/s", lambda seconds: options.length / seconds)


if __name__ == "__main__":
    terminal.run(main)

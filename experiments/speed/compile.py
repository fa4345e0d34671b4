"""How long the gradient of a deep recurrent network takes to compile, by its length.

    python -m experiments.speed.compile --layers 4 --length 35 2000

Tracing and compiling of one gradient of layers of LSTM, beside the same layers of
`flax.linen.RNN`. Every compilation is the first one of a process of its own; the figures
are medians of rounds in turn.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import tyro
from jax import Array

import jaxrnn
from jaxrnn.training.run import command, terminal

Library = Literal["jaxrnn", "flax.linen"]


@dataclass(frozen=True)
class Options:
    """How long the gradient of a deep recurrent network takes to compile."""

    layers: int = 4
    length: tuple[int, ...] = (35, 2000)
    batch_size: int = 20
    hidden_size: int = 200
    rounds: int = 5
    once: Library | None = None
    """Compile once, of this library, in this process, and print the seconds."""


def deep(library: Library, options: Options) -> tuple[Any, Any]:
    """`outputs(params, xs)` of all layers, and its params."""
    size, key = options.hidden_size, jax.random.key(0)
    if library == "jaxrnn":
        stack = jaxrnn.Stack([jaxrnn.LSTM(size, size)] * options.layers)
        return lambda params, xs: jaxrnn.unroll(stack, params, xs)[1], stack.init(key)
    from flax import linen

    layers = linen.Sequential(
        [
            linen.RNN(linen.OptimizedLSTMCell(size), time_major=True)
            for _ in range(options.layers)
        ]
    )
    return layers.apply, layers.init(key, jnp.ones((2, options.batch_size, size)))


def seconds_once(library: Library, options: Options) -> float:
    outputs, params = deep(library, options)
    xs = jnp.ones((options.length[0], options.batch_size, options.hidden_size))

    def loss(params: Any, xs: Array) -> Array:
        return jnp.sum(outputs(params, xs) ** 2)

    began = time.perf_counter()
    jax.jit(jax.grad(loss)).lower(params, xs).compile()
    return time.perf_counter() - began


def in_a_process(library: Library, length: int, options: Options) -> float:
    arguments = ["--layers", options.layers, "--length", length, "--once", library]
    arguments += ["--batch-size", options.batch_size, "--hidden-size", options.hidden_size]
    module = [sys.executable, "-m", __spec__.name, *map(str, arguments)]
    return json.loads(subprocess.check_output(module, text=True))


def main() -> None:
    with command.refusals():
        options = tyro.cli(Options, description=__doc__)
    if options.once:
        print(json.dumps(seconds_once(options.once, options)))
        return
    found: dict[tuple[Library, int], list[float]] = {}
    for _ in range(options.rounds):
        for length in options.length:
            for library in ("jaxrnn", "flax.linen"):
                seconds = in_a_process(library, length, options)
                found.setdefault((library, length), []).append(seconds)
    for (library, length), seconds in found.items():
        print(f"{library:12} T {length:6} {statistics.median(seconds):8.2f} s to compile")


if __name__ == "__main__":
    terminal.run(main)

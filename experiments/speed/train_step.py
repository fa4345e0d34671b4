"""Times the gradient of one layer over time, beside Flax and (if installed) PyTorch.

    python -m experiments.speed.train_step --T 35 --B 20 --D 650 --H 650

Each program computes the gradient of a weighted sum of all outputs with respect to the
parameters and the inputs, in float32. Ratios are to the first row.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import linen

import jaxrnn
from jaxrnn.strategies.choose import Named
from jaxrnn.training.run import terminal

from .rivals import compare, show


@dataclass(frozen=True)
class Options:
    """Times the gradient of one layer over time, beside Flax and PyTorch."""

    T: int = 35
    B: int = 20
    D: int = 650
    H: int = 650
    cell: Literal["lstm", "gru"] = "lstm"
    rounds: int = 20


Program = Callable[[], object]


def ours(options: Options, strategy: Named, xs: np.ndarray, weight: np.ndarray) -> Program:
    kind = {"lstm": jaxrnn.LSTM, "gru": jaxrnn.GRU}[options.cell]
    cell = kind(options.D, options.H)

    def loss(params, xs):
        return jnp.sum(jaxrnn.unroll(cell, params, xs, strategy=strategy)[1] * weight)

    return _gradient(loss, cell.init(jax.random.key(0)), xs)


def flax(options: Options, xs: np.ndarray, weight: np.ndarray) -> Program:
    kind = {"lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell}[options.cell]
    rnn = linen.RNN(kind(options.H), time_major=True)

    def loss(params, xs):
        return jnp.sum(rnn.apply(params, xs) * weight)  # pyright: ignore

    return _gradient(loss, rnn.init(jax.random.key(0), jnp.asarray(xs)), xs)


def pytorch(options: Options, xs: np.ndarray, weight: np.ndarray) -> Program:
    import torch

    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[options.cell]
    rnn = kind(options.D, options.H)
    inputs = torch.tensor(xs, requires_grad=True)
    weights = torch.tensor(weight)

    def program() -> None:
        rnn.zero_grad()
        inputs.grad = None
        (rnn(inputs)[0] * weights).sum().backward()

    return program


def _gradient(loss: Callable, params: object, xs: np.ndarray) -> Program:
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    arguments = params, jnp.asarray(xs)
    return lambda: jax.block_until_ready(gradient(*arguments))


def main() -> None:
    options = tyro.cli(Options)
    random = np.random.default_rng(0)
    xs = random.normal(size=(options.T, options.B, options.D)).astype(np.float32)
    weight = random.normal(size=(options.T, options.B, options.H)).astype(np.float32)
    programs = {
        "jaxrnn, fused": ours(options, "fused", xs, weight),
        "jaxrnn, scan": ours(options, "scan", xs, weight),
        "flax.linen.RNN": flax(options, xs, weight),
    }
    if importlib.util.find_spec("torch"):
        programs["torch.nn"] = pytorch(options, xs, weight)
    print(f"{options.cell} T={options.T} B={options.B} D={options.D} H={options.H} float32")
    print(
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}, median of {options.rounds}"
    )
    show(compare(programs, options.rounds), "ms", lambda seconds: 1e3 * seconds)


if __name__ == "__main__":
    terminal.run(main)

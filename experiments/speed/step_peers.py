"""A training step of a language model of words, timed when asked.

    python -m experiments.speed.step_peers jaxrnn.float32 650

Prints a line of JSON about itself, then the seconds of one step for each line that it
reads. `experiments.speed.language_model` runs one such process for each program.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import Stack, unroll
from jaxrnn.data.tokenizer import END_OF_LINE, UNKNOWN, Tokenizer

from ..language_model.config import PRESETS, Config
from ..language_model.problem import NextToken
from ..language_model.text import Text
from .layer_peers import Products
from .rivals import answer

WORDS, STEPS = 10_000, 50
LIKE = PRESETS["ptb-medium"][1]


def config_of(size: int) -> Config:
    """The medium model of Zaremba et al. 2014 with `size` units, without dropout."""
    return replace(LIKE, dropout=0.0, hidden_size=size, embedding_size=size)


def tokens_of(config: Config) -> np.ndarray:
    count = config.batch_size * config.sequence_length * STEPS + 1
    return np.random.default_rng(0).integers(0, WORDS, count, dtype=np.int32)


def ours(config: Config) -> Callable[[], object]:
    words = [*(f"word{n}" for n in range(WORDS - 2)), UNKNOWN, END_OF_LINE]
    tokens = {"train": tokens_of(config)}
    problem = NextToken(config, Text(Tokenizer("word", tuple(words)), tokens, ""))
    trainer = config.make_trainer(problem)
    state, at = trainer.init(0), 0

    def step() -> object:
        nonlocal state, at
        state, metrics = trainer.step(state, trainer.batch(at % STEPS))
        at += 1
        return jax.block_until_ready(metrics["loss"])

    return step


def products(config: Config) -> Callable[[], object]:
    """The products of a step and their gradients, and none of what lies between them."""
    size, batch = config.hidden_size, (config.sequence_length, config.batch_size)
    layers = Stack((Products(size, size, 4),) * config.layers)
    params, output = layers.init(jax.random.key(0)), jnp.zeros((size, WORDS))
    xs = jnp.ones((*batch, size))
    weight = jnp.ones((config.sequence_length * config.batch_size, WORDS))

    def loss(params: Any, xs: Array, output: Array) -> Array:
        ys = unroll(layers, params, xs)[1].reshape(-1, size)
        return jnp.sum(ys @ output * weight)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    return lambda: jax.block_until_ready(gradient(params, xs, output))


def pytorch(config: Config) -> Callable[[], object]:
    import torch

    size, layers = config.hidden_size, config.layers
    embedding = torch.nn.Embedding(WORDS, size)
    lstm = torch.nn.LSTM(size, size, layers)
    output = torch.nn.Linear(size, WORDS)
    parts = torch.nn.ModuleList([embedding, lstm, output])
    optimiser = torch.optim.SGD(parts.parameters(), lr=config.learning_rate)
    tokens = torch.tensor(tokens_of(config), dtype=torch.long)
    shape = STEPS, config.sequence_length, config.batch_size
    inputs, targets = tokens[:-1].reshape(shape), tokens[1:].reshape(STEPS, -1)
    carry, at = tuple(torch.zeros(2, layers, config.batch_size, size)), 0

    def step() -> float:
        nonlocal carry, at
        ys, carry = lstm(embedding(inputs[at % STEPS]), carry)
        carry = tuple(part.detach() for part in carry)
        logits = output(ys).reshape(-1, WORDS)
        loss = torch.nn.functional.cross_entropy(logits, targets[at % STEPS])
        at += 1
        optimiser.zero_grad()
        (loss * config.loss_factor).backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), config.clip)
        optimiser.step()
        return loss.item()

    return step


PROGRAMS: dict[str, Callable[[Config], Callable[[], object]]] = {
    "jaxrnn.float32": ours,
    "jaxrnn.bfloat16": lambda config: ours(replace(config, precision="bfloat16")),
    "products alone": products,
    "torch.nn": pytorch,
}


def main() -> None:
    name, size = sys.argv[1:]
    answer(PROGRAMS[name](config_of(int(size))))


if __name__ == "__main__":
    main()

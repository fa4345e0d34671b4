"""Draws how far back trained language models look.

    python -m experiments.language_model.plot runs/char runs/char-elman

Two pictures side by side, a curve a run, on the validation text: how much the prediction of
a token depends on the state so many tokens before; and how long each unit of the first
layer remembers, where the cell has gates.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import Array

from jaxrnn import Stack
from jaxrnn.data.shards import Tokens
from jaxrnn.diagnostics import gradient_by_lag, horizons
from jaxrnn.diagnostics.plots import draw_memory
from jaxrnn.models import LanguageModel
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals

from .run import load_recurrent, read_text


@dataclass(frozen=True)
class Options:
    """Draws how far back trained language models look."""

    run_dirs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    data: Path | None = None
    """Where the text lies now, if it moved since; it must be the same text."""
    tokens: int = 200
    """To look back by."""
    lanes: int = 32
    """Places in the text to look from."""
    picture: Path = Path("language_model.png")


def passages(tokens: np.ndarray | Tokens, length: int, lanes: int) -> Array:
    """`[length + 1, lanes]`, evenly spread; raises ValueError if the text is shorter, or
    there is nothing to look at."""
    if min(length, lanes) < 1:
        raise ValueError(f"tokens and lanes must be 1 or more, got {length} and {lanes}")
    if len(tokens) <= length:
        raise ValueError(f"tokens must be {len(tokens) - 1} or fewer, got {length}")
    starts = np.linspace(0, len(tokens) - length - 1, lanes).astype(int)
    return jnp.asarray(tokens[starts + np.arange(length + 1)[:, None]], jnp.int32)


def reach(model: LanguageModel, read: Array) -> Array:
    """`[T, N]` by lag: the gradient of the nats of the last token by each state before."""
    layers = Stack(tuple(layer.recurrence for layer in model.layers))
    params = tuple(layer.arrays() for layer in model.layers)

    def nats(ys: Array) -> Array:
        logits = model.logits(ys[-1])
        return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, read[-1]))

    return gradient_by_lag(layers, params, model.embedding(read[:-1]), nats)


def draw(options: Options) -> None:
    """Raises ValueError if a folder holds no run, or the text is not that of the run."""
    lags, memories = {}, {}
    for path in options.run_dirs:
        model, tokenizer, config = load_recurrent(path)
        config = replace(config, data=options.data or config.data)
        text = read_text(path, config, tokenizer)
        read = passages(text.tokens["valid"], options.tokens, options.lanes)
        first = model.layers[0]
        lags[path.name] = reach(model, read)
        memories[path.name] = horizons(
            first.recurrence, first.arrays(), model.embedding(read[:-1])
        )
    draw_memory(lags, memories, options.picture)


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        draw(options)
    print(options.picture)


if __name__ == "__main__":
    terminal.run(main)

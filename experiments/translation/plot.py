"""Draws how far back trained translators look.

    python -m experiments.translation.plot runs/de-en runs/de-en-lstm

Two pictures side by side, a curve a run, on test pairs: how much the last word of a
translation depends on the decoder's state so many words before; and how long each unit of
the encoder remembers that reads from left to right. Without attention, all that a decoder
knows of the source has come through its own state; with attention, it looks again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import Array

from jaxrnn import Bidirectional, Stack
from jaxrnn.data.buckets import Rows
from jaxrnn.diagnostics import gradient_by_lag, horizons
from jaxrnn.diagnostics.plots import draw_memory
from jaxrnn.models.translator import Translator
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals

from .problem import Batch, Examples, before_each
from .run import load, read_test


@dataclass(frozen=True)
class Options:
    """Draws how far back trained translators look."""

    run_dirs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    words: int = 12
    """To look back by; translations that have no more are left out."""
    pairs: int = 64
    """The first ones that are long enough."""
    picture: Path = Path("translation.png")


def batch_of(examples: Examples, words: int, pairs: int) -> Batch:
    """Raises ValueError if no translation has so many words."""
    lengths = np.array([len(target) for target in examples.target])
    chosen = np.flatnonzero(lengths > words)[:pairs]
    if not len(chosen):
        raise ValueError(f"words must be {lengths.max() - 1} or fewer, got {words}")
    longest = max(
        len(side[n]) for side in (examples.source, examples.target) for n in chosen
    )
    return examples.batch(Rows(chosen, longest))


def reach(model: Translator, batch: Batch) -> Array:
    """`[T, B]` by lag: the gradient of the nats of the last word before the end by the
    decoder's state before each word."""
    mask = jnp.roll(batch.target_mask, -1, axis=0).at[-1].set(False)
    encoded = model.encode(batch.source, batch.source_mask)
    xs = model.target_embedding(before_each(batch.target))
    last = mask & ~jnp.roll(mask, -1, axis=0).at[-1].set(False)

    def nats(ys: Array) -> Array:
        logits = model.logits(ys, xs)
        all_nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.target)
        return jnp.sum(jnp.where(last, all_nats, 0))

    return gradient_by_lag(
        model.decoder.recurrence, model.reading(encoded), xs, nats, encoded.carry, mask=mask
    )


def encoder_horizons(model: Translator, batch: Batch) -> Array:
    """`[H]` of the encoder's first layer, from left to right."""
    encoder, params = model.encoder.recurrence, model.encoder.arrays()
    if isinstance(encoder, Stack):
        encoder, params = encoder.parts[0], params[0]
    assert isinstance(encoder, Bidirectional)
    xs, mask = model.source_embedding(batch.source), batch.source_mask
    return horizons(encoder.parts[0], params[0], xs, mask=mask)


def draw(run_dirs: tuple[Path, ...], words: int, pairs: int, picture: Path) -> None:
    """Raises ValueError if a folder holds no run, or one without a recurrence."""
    lags, memories = {}, {}
    for path in run_dirs:
        model, languages, config = load(path)
        if not isinstance(model, Translator):
            raise ValueError(
                f"{path} has a transformer, which has no state to look back by"
            )
        examples = Examples.of(read_test(path, config), languages, config, None)
        batch = batch_of(examples, words, pairs)
        lags[path.name] = reach(model, batch)[:words]
        memories[path.name] = encoder_horizons(model, batch)
    draw_memory(lags, memories, picture)


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        draw(options.run_dirs, options.words, options.pairs, options.picture)
    print(options.picture)


if __name__ == "__main__":
    terminal.run(main)

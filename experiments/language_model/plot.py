"""Draws how far back trained language models look.

    python -m experiments.language_model.plot runs/char runs/char-elman

Two pictures side by side, a curve a run, on the validation text: how much the prediction of
a token depends on the state so many tokens before; and how long each unit of the first
layer remembers, where the cell has gates.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from jaxrnn.diagnostics import horizons
from jaxrnn.diagnostics.plots import draw_memory
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals

from .reach import passages, reach
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

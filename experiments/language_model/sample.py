"""Writes text with a trained language model.

python -m experiments.language_model.sample runs/demo --prompt "def " --length 500
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxrnn.models import Sampling
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals

from .prompt import say_unseen, write
from .run import load_recurrent


@dataclass(frozen=True)
class Options:
    """Writes text with a trained language model."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    prompt: str = "\n"
    """The text to go on from; it is printed too, as it is given."""
    length: int = 500
    """Tokens to write."""
    temperature: float = 0.8
    """Below 1 the likely gets likelier; 0 always takes the likeliest token."""
    top_k: int | None = None
    """Choose among the k likeliest tokens only."""
    top_p: float | None = None
    """Choose among the fewest tokens that together have this probability."""
    samples: int = 1
    """Texts to write side by side."""
    seed: int = 0


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        model, tokenizer, _ = load_recurrent(options.run_dir)
        say_unseen(tokenizer, options.prompt)
        texts = write(
            model,
            tokenizer,
            options.prompt,
            options.length,
            Sampling(options.temperature, options.top_k, options.top_p),
            samples=options.samples,
            seed=options.seed,
        )
    print(("\n" + "-" * 72 + "\n").join(texts))


if __name__ == "__main__":
    terminal.run(main)

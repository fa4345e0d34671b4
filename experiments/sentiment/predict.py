"""Tells the class of texts with a trained classifier.

    python -m experiments.sentiment.predict runs/sst2 "A lovely film." "Two hours too long."
    python -m experiments.sentiment.predict runs/sst2 < reviews.txt

Without a text, each line of standard input is one, and answered as it comes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.terminal import as_text

from .run import Trained


@dataclass(frozen=True)
class Options:
    """Tells the class of texts with a trained classifier: those given, or each line of
    standard input as it comes."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    texts: Annotated[tuple[str, ...], tyro.conf.Positional]


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        trained = Trained.load(options.run_dir)
        if options.texts:
            texts = [as_text(text) for text in options.texts]
            for text, shares in zip(texts, trained.probabilities(texts), strict=True):
                print(answer(trained, text, shares))
            return
        for line in terminal.input_lines():
            if line.strip():
                (shares,) = trained.probabilities([line])
                print(answer(trained, line, shares), flush=True)
            else:  # the nth answer is that of the nth line
                print(flush=True)


def answer(trained: Trained, text: str, shares: np.ndarray) -> str:
    told = "  ".join(
        f"{label} {share:.3f}" for label, share in zip(trained.labels, shares, strict=True)
    )
    return f"{trained.labels[shares.argmax()]}  ({told})  {text}"


if __name__ == "__main__":
    terminal.run(main)

"""Tells the class of texts with a trained classifier.

python -m experiments.sentiment.predict runs/sst2 "A lovely film." "Two hours too long."
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.sentiment.run import Trained
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.terminal import as_text


@dataclass(frozen=True)
class Options:
    """Tells the class of texts with a trained classifier."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    texts: Annotated[tuple[str, ...], tyro.conf.Positional]


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        trained = Trained.load(options.run_dir)
        texts = [as_text(text) for text in options.texts]
        for text, shares in zip(texts, trained.probabilities(texts), strict=True):
            told = "  ".join(
                f"{label} {share:.3f}"
                for label, share in zip(trained.labels, shares, strict=True)
            )
            print(f"{trained.labels[shares.argmax()]}  ({told})  {text}")


if __name__ == "__main__":
    terminal.run(main)

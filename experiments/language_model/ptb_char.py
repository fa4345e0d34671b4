"""Writes the character-level Penn Treebank from the word-level one.

    python -m experiments.language_model.ptb_char ptb/ ptb-char/

A line is stripped, a space becomes an underscore (Mikolov et al. 2012): 5,017,482
characters for training, 393,042 for validation, 442,423 for the test, 50 distinct ones.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals

from .text import read_splits


@dataclass(frozen=True)
class Options:
    """Writes the character-level Penn Treebank from the word-level one."""

    data: Annotated[Path, tyro.conf.Positional]
    """The folder of the word-level files."""
    to: Annotated[Path, tyro.conf.Positional]
    """The folder to write train.txt, valid.txt and test.txt to."""


def as_characters(text: bytes) -> bytes:
    lines = text.decode().removesuffix("\n").split("\n")
    return "".join(f"{line.strip().replace(' ', '_')}\n" for line in lines).encode()


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        splits = read_splits(options.data, (0.9, 0.05, 0.05), "word")
        options.to.mkdir(parents=True, exist_ok=True)
        for name, text in splits.items():
            (options.to / f"{name}.txt").write_bytes(as_characters(text))
    print(options.to)


if __name__ == "__main__":
    terminal.run(main)

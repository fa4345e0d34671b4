"""Translates sentences with a trained translator.

    python -m experiments.translation.translate runs/en-es "The sun sets." --picture sun.png
    python -m experiments.translation.translate runs/en-es < sentences.txt

Without a sentence, each line of standard input is one, and translated as it comes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.terminal import as_text

from .picture import draw
from .run import Trained


@dataclass(frozen=True)
class Options:
    """Translates sentences with a trained translator: those given, or each line of standard
    input as it comes."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    sentences: Annotated[tuple[str, ...], tyro.conf.Positional]
    beam: int = 5
    """Beginnings followed side by side; 1 takes the likeliest token at every step."""
    picture: Path | None = None
    """A file for the picture of the attention to one sentence."""


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        sentences = [as_text(sentence) for sentence in options.sentences]
        if options.picture is not None and len(sentences) != 1:
            raise ValueError(f"a picture is of one sentence, got {len(sentences)}")
        trained = Trained.load(options.run_dir)
        if sentences:
            print("\n".join(trained(*sentences, beam=options.beam)))
        else:
            for line in terminal.input_lines():
                # The nth translation is that of the nth line.
                written = trained(line, beam=options.beam) if line.strip() else [""]
                print(*written, flush=True)
        if options.picture is not None:
            draw(trained.look(sentences[0], beam=options.beam), options.picture)


if __name__ == "__main__":
    terminal.run(main)

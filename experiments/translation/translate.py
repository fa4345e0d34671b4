"""Translates a sentence with a trained translator.

python -m experiments.translation.translate runs/en-es "The sun shines." --picture sun.png
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.translation.picture import draw
from experiments.translation.run import load
from experiments.translation.translation import look, translate
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.terminal import as_text


@dataclass(frozen=True)
class Options:
    """Translates a sentence with a trained translator."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    sentence: Annotated[str, tyro.conf.Positional]
    beam: int = 5
    """Beginnings followed side by side; 1 takes the likeliest token at every step."""
    picture: Path | None = None
    """A file for the picture of the attention."""


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        sentence = as_text(options.sentence)
        if not sentence.strip():
            raise ValueError(f"a sentence needs at least one word, got {sentence!r}")
        model, languages, config = load(options.run_dir)
        (written,) = translate(
            model, languages, [sentence], beam=options.beam, length=config.longest
        )
        if options.picture is not None:
            draw(look(model, languages, sentence, written), options.picture)
    print(languages.target.decode(written))


if __name__ == "__main__":
    terminal.run(main)

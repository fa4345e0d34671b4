"""Scores a trained translator on the test pairs of its run.

python -m experiments.translation.evaluate runs/de-en --beam 5
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals

from .run import load, read_test
from .scores import scores
from .translation import translate


@dataclass(frozen=True)
class Options:
    """Scores a trained translator on the test pairs of its run."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    beam: int = 1
    """Beginnings followed side by side; 1 takes the likeliest token at every step."""
    data: Path | None = None
    """Where the data lie now, if they moved since; they must be the same."""
    output: Path | None = None
    """A file for the translations, one a line."""


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        model, languages, config = load(options.run_dir)
        config = replace(config, data=options.data or config.data)
        test = read_test(options.run_dir, config)
        began = time.monotonic()
        tokens = translate(
            model, languages, test.source, beam=options.beam, length=config.longest
        )
        seconds = time.monotonic() - began
        written = [languages.target.decode(sentence) for sentence in tokens]
        if options.output is not None:
            options.output.write_text("\n".join(written) + "\n", encoding="utf-8")
        figures = scores(written, test.target, languages.target)
    print(json.dumps({"beam": options.beam, **figures, "seconds": seconds}, indent=1))


if __name__ == "__main__":
    terminal.run(main)

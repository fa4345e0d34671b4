"""Measures a trained language model: on the validation and test text of its run, or on
any other.

    python -m experiments.language_model.evaluate runs/char --data input.txt
    python -m experiments.language_model.evaluate runs/char --text another.txt
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from flax import nnx

from jaxrnn.data.splits import read_whole
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.progress import figures_shown

from .problem import NextToken
from .run import load, read_text


@dataclass(frozen=True)
class Options:
    """Measures a trained language model: on the validation and test text of its run, or on
    any other."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    data: Path | None = None
    """Where the text lies now, if it moved since; it must be the same text."""
    text: Path | None = None
    """Another text to measure on instead: a file, a folder of files or a pattern."""
    lanes: int | None = None
    """Lanes of text read side by side, as in training unless told; 1, and `text` unless
    told, are read from end to end."""


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        model, tokenizer, config = load(options.run_dir)
        config = replace(
            config,
            data=options.data or config.data,
            batch_size=options.lanes or (1 if options.text else config.batch_size),
            accumulate=1,
            eval_batches=None,
        )
        if options.text is None:
            texts = read_text(options.run_dir, config)
        else:
            texts = {"text": read_whole(options.text, config.tokens)}
            if unseen := tokenizer.about_unseen(texts["text"]):
                print(f"of the text, {unseen}", file=sys.stderr)
        problem = NextToken(config, tokenizer, texts)
        trainer, params = config.make_trainer(problem), nnx.split(model)[1]
        losses = {}
        for split in ("valid", "test", "text"):
            if figures := trainer.measure(params, split):
                losses[f"{split}_loss"] = figures["loss"]
                print(figures_shown(split, figures, problem.unit))
    print(json.dumps(losses))


if __name__ == "__main__":
    terminal.run(main)

"""Measures a trained language model on the validation and test text of its run.

python -m experiments.language_model.evaluate runs/char --data input.txt
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from flax import nnx

from experiments.language_model.run import load, read_text
from experiments.language_model.task import make_measure
from jaxrnn.data.lanes import TokenLanes
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.progress import figures_shown


@dataclass(frozen=True)
class Options:
    """Measures a trained language model on the validation and test text of its run."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    data: Path | None = None
    """Where the text lies now, if it moved since; it must be the same text."""
    lanes: int | None = None
    """Lanes of text read side by side; 1 reads each split from end to end."""


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        model, tokenizer, config = load(options.run_dir)
        splits = read_text(
            options.run_dir, replace(config, data=options.data or config.data)
        )
        graph, params = nnx.split(model)
        measure = make_measure(graph)
        figures = {}
        for name in ("valid", "test"):
            if name not in splits:
                continue
            tokens = tokenizer.encode(splits[name])
            lanes = TokenLanes(
                tokens, options.lanes or config.batch_size, config.sequence_length
            )
            measured = measure(params, lanes)
            figures[f"{name}_loss"] = measured["loss"]
            print(figures_shown(name, measured, config.tokens))
    print(json.dumps(figures))


if __name__ == "__main__":
    terminal.run(main)

"""Measures a trained language model: on the validation and test text of its run, or on
any other.

    python -m experiments.language_model.evaluate runs/char --data input.txt
    python -m experiments.language_model.evaluate runs/char --text another.txt
    python -m experiments.language_model.evaluate runs/ptb --dynamic rms \\
        --dynamic-rate 0.0001 0.0002 --dynamic-decay 0.002
    python -m experiments.language_model.evaluate runs/ptb --cache-window 500 2000 \\
        --cache-theta 0.3 1 --cache-share 0.1

Dynamic evaluation goes on learning from the text that it has measured (Krause et al. 2018),
a neural cache makes the words that it read last likelier (Grave et al. 2017). Of several
values the best on the validation text is the one that is measured on the test text.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from flax import nnx

from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.progress import figures_shown

from .adaptive import Way, cached, dynamic
from .config import Config
from .problem import NextToken
from .run import load, read_text
from .text import Text, read_any


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
    """Lanes of text read side by side, as in training unless told. 1, which `text`,
    `dynamic` and a cache take unless told, reads from end to end."""

    dynamic: Literal["sgd", "rms"] | None = None
    """Go on learning from what was measured: by plain SGD, or each parameter at the pace
    that its gradient had on the training text."""
    dynamic_rate: tuple[float, ...] = (1e-4,)
    """For rms; sgd wants some thousand times as much."""
    dynamic_decay: tuple[float, ...] = (2e-3,)
    """How fast parameters fall back to what training made of them."""
    dynamic_segment: int = 5
    """Tokens that are measured before they are learned from."""
    statistics_lanes: int = 100
    """Lanes of the training text that --dynamic rms takes its gradients from."""

    cache_window: tuple[int, ...] = ()
    """Words that a cache remembers; none for no cache."""
    cache_theta: tuple[float, ...] = (1.0,)
    """How much more likely a word gets that came after a state like this one."""
    cache_share: tuple[float, ...] = (0.1,)
    """The cache's part in the prediction."""

    grid_batches: int | None = None
    """Choose among several values on the first so many batches of the validation text."""

    @property
    def from_end_to_end(self) -> bool:
        return self.dynamic is not None or bool(self.cache_window) or self.text is not None


def ways(options: Options, config: Config, text: Text, params: Any) -> Iterator[Way]:
    """Every combination of the values given; raises ValueError for two ways at once, for a
    value out of range, and for what takes a split that `text` does not have."""
    if options.dynamic is not None and options.cache_window:
        raise ValueError("one of --dynamic and --cache-window, got both")
    if options.dynamic == "rms" and "train" not in text.tokens:
        raise ValueError("--dynamic rms takes the training text of the run, not --text")
    if options.dynamic is not None:
        yield from dynamic(
            config,
            text,
            params,
            options.dynamic,
            options.dynamic_rate,
            options.dynamic_decay,
            segment=options.dynamic_segment,
            statistics_lanes=options.statistics_lanes,
        )
    elif options.cache_window:
        values = options.cache_window, options.cache_theta, options.cache_share
        yield from cached(config, text, *values)
    else:
        yield {}, NextToken(config, text)


def best_of(found: list[Way], config: Config, params: Any) -> Way:
    """The way that is best on the validation text; the only one is not measured. Raises
    ValueError for several without a validation text."""
    if len(found) == 1:
        return found[0]
    losses = []
    for values, problem in found:
        figures = config.make_trainer(problem).measure(params, "valid")
        if not figures:
            raise ValueError(
                f"the best of {len(found)} ways is chosen on the validation text of the "
                "run: with --text give one value each"
            )
        losses.append(figures["loss"])
        told = "  ".join(f"{name} {value:g}" for name, value in values.items())
        print(f"{told}  {figures_shown('valid', figures, problem.unit)}")
    best = int(np.argmin(np.nan_to_num(losses, nan=np.inf)))
    if not np.isfinite(losses[best]):
        raise ValueError(
            f"none of {len(found)} ways came to a finite loss; smaller values of "
            "--dynamic-rate or --dynamic-decay may"
        )
    return found[best]


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    with refusals():
        model, tokenizer, config = load(options.run_dir)
        params = nnx.split(model)[1]
        usual = 1 if options.from_end_to_end else config.batch_size
        config = replace(
            config,
            data=options.data or config.data,
            batch_size=options.lanes or usual,
            accumulate=1,
            eval_batches=None,
        )
        if options.text is None:
            text = read_text(options.run_dir, config, tokenizer)
        else:
            text = read_any(options.text, config, tokenizer)
        found = list(ways(options, config, text, params))
        grid = replace(config, eval_batches=options.grid_batches)
        values, problem = best_of(found, grid, params)
        trainer = config.make_trainer(problem)
        told: dict[str, float] = dict(values)
        for split in ("valid", "test", "text"):
            if figures := trainer.measure(params, split):
                told[f"{split}_loss"] = figures["loss"]
                print(figures_shown(split, figures, problem.unit))
    print(json.dumps(told))


if __name__ == "__main__":
    terminal.run(main)

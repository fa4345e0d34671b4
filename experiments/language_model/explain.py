"""Colours a text by what one unit of a trained language model does at each token.

    python -m experiments.language_model.explain runs/demo "def length(text):"

Red is positive, blue negative, as Karpathy et al. 2015 looked for units that follow quotes,
brackets or the length of a line. Without `--unit`, it is the unit of the layer that forgets
the most slowly.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import tyro

from jaxrnn.diagnostics import colour_text, horizons
from jaxrnn.models import LanguageModel
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals

from .prompt import read_prompt, say_unseen
from .run import load_recurrent


@dataclass(frozen=True)
class Options:
    """Colours a text by what one unit of a trained language model does at each token."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    text: Annotated[str, tyro.conf.Positional]
    layer: int = 0
    """0 is the one above the embedding."""
    unit: int | None = None
    """Of the layer's outputs; the one that forgets the most slowly if not given."""
    page: Path | None = None
    """The HTML file to write; explain.html in the run's folder if not given."""


def unit_outputs(
    model: LanguageModel, tokens: np.ndarray, layer: int, unit: int | None
) -> tuple[int, np.ndarray]:
    """The unit and its output `[T]`; raises ValueError if there is no such layer or unit,
    or none is given and the layer has no gate that forgets, one value a unit."""
    if not 0 <= layer < len(model.layers):
        raise ValueError(f"layer must lie in [0, {len(model.layers)}), got {layer}")
    xs = model.embedding(jnp.asarray(tokens, jnp.int32))
    for below in list(model.layers)[:layer]:
        _, xs = below(xs)
    chosen = model.layers[layer]
    _, ys = chosen(xs)
    if unit is None:
        memory = horizons(chosen.recurrence, chosen.arrays(), xs)
        if len(memory) != ys.shape[-1]:
            raise ValueError(f"{chosen.recurrence} has no forget gate a unit: name a unit")
        unit = int(jnp.argmax(memory))
    if not 0 <= unit < ys.shape[-1]:
        raise ValueError(f"unit must lie in [0, {ys.shape[-1]}), got {unit}")
    return unit, np.asarray(ys[:, unit])


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        model, tokenizer, _ = load_recurrent(options.run_dir)
        tokens = read_prompt(tokenizer, options.text)
        say_unseen(tokenizer, options.text)
        unit, outputs = unit_outputs(model, tokens, options.layer, options.unit)
        page = options.page or options.run_dir / "explain.html"
        coloured = colour_text(tokenizer.spell(tokens), outputs)
        page.write_text(f'<meta charset="utf-8">\n{coloured}', encoding="utf-8")
    print(f"unit {unit} of layer {options.layer}: {page}")


if __name__ == "__main__":
    terminal.run(main)

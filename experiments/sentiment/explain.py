"""Draws what a trained classifier thinks of a text word by word, and colours the text by
the unit that speaks the loudest for its answer.

python -m experiments.sentiment.explain runs/sst2 "I did not like the film at first, but \
the ending was extraordinary"
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxrnn.diagnostics import colour_text
from jaxrnn.training.run import terminal
from jaxrnn.training.run.command import refusals
from jaxrnn.training.run.terminal import as_text

from .run import Trained


@dataclass(frozen=True)
class Options:
    """Draws what a trained classifier thinks of a text word by word."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    text: Annotated[str, tyro.conf.Positional]
    picture: Path | None = None
    """The PNG file to draw; explain.png in the run's folder if not given. The coloured
    text is an HTML file beside it."""


def draw(words: list[str], shares: np.ndarray, labels: tuple[str, ...], to: Path) -> None:
    figure = Figure(figsize=(max(0.62 * len(words), 4), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = range(1, 2) if len(labels) == 2 else range(len(labels))
    for number in shown:
        axes.plot(shares[:, number], marker="o", label=labels[number])
    if len(labels) == 2:
        axes.axhline(0.5, color="0.6", linewidth=0.8)
        axes.set_ylabel(f"probability of {labels[1]!r}")
    else:
        axes.set_ylabel("probability")
        axes.legend()
    axes.set_xticks(range(len(words)), words, rotation=45, ha="right", parse_math=False)
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    figure.savefig(to, dpi=130)


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        trained = Trained.load(options.run_dir)
        text = as_text(options.text)
        words, shares = trained.word_by_word(text)
        width = max(map(len, words))
        for word, row in zip(words, shares, strict=True):
            told = zip(trained.labels, row, strict=True)
            line = "  ".join(f"{label} {share:.3f}" for label, share in told)
            print(f"{word:{width}}  {line}")
        picture = options.picture or options.run_dir / "explain.png"
        draw(words, shares, trained.labels, picture)
        page = picture.with_suffix(".html")
        coloured = colour_text(*trained.telling_unit(text))
        page.write_text(f'<meta charset="utf-8">\n{coloured}', encoding="utf-8")
        print(f"drawn: {picture}\ncoloured: {page}")


if __name__ == "__main__":
    terminal.run(main)

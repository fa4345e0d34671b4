"""The picture of an attention: from which word each word was translated."""

from pathlib import Path

from matplotlib.figure import Figure

from .translation import Look, readable


def draw(look: Look, path: Path) -> None:
    rows, columns = look.weights.shape
    figure = Figure(figsize=(1.5 + 0.45 * columns, 1.5 + 0.4 * rows), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(look.weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(
        range(columns), readable(look.source), rotation=60, ha="left", parse_math=False
    )
    axes.set_yticks(range(rows), readable(look.target), parse_math=False)
    axes.xaxis.tick_top()
    figure.savefig(path, dpi=150)

"""Pictures of the arrays: each function draws into Matplotlib axes and returns nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jax.typing import ArrayLike

from jaxrnn.extras import require

if TYPE_CHECKING:  # Matplotlib takes half a second to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure without a window, and its axes `[rows, columns]`."""
    require("matplotlib", "run")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * columns, 4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Figure, picture: Path) -> None:
    figure.savefig(picture, dpi=130)


def plot_by_lag(axes: Axes, curves: Mapping[str, ArrayLike]) -> None:
    """Curves of `gradient_by_lag`, by name; of `[T, ...]` the mean of the rows."""
    for name, norms in curves.items():
        norms = np.asarray(norms)
        rows = norms.reshape(len(norms), -1)
        present = np.any(np.isfinite(rows), axis=1)
        # A gradient that has become zero has no place on a logarithmic axis.
        means = np.nanmean(rows[present], axis=1)
        axes.plot(np.flatnonzero(present), np.where(means > 0, means, np.nan), label=name)
    axes.set(xlabel="lag, in steps", ylabel="norm of the gradient", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()


def plot_horizons(axes: Axes, horizons: Mapping[str, ArrayLike]) -> None:
    """Of each name, the units' `memory_horizon` from short to long; a name without units
    has no curve."""
    for name, horizon in horizons.items():
        ordered = np.sort(np.ravel(np.asarray(horizon)))
        if len(ordered):
            axes.plot(np.linspace(0, 1, len(ordered)), ordered, ".-", label=name)
    axes.set(xlabel="share of the units", ylabel="memory horizon, in steps", yscale="log")
    axes.grid(alpha=0.3)
    if axes.get_lines():
        axes.legend()


def draw_memory(
    lags: Mapping[str, ArrayLike], horizons: Mapping[str, ArrayLike], picture: Path
) -> None:
    """`plot_by_lag` and `plot_horizons` side by side in a file: how far back what is told
    depends on the state, and how long each unit remembers."""
    figure, ((left, right),) = new_figure(1, 2)
    plot_by_lag(left, lags)
    plot_horizons(right, horizons)
    save(figure, picture)


def plot_saturation(axes: Axes, gates: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
    """Of each gate by name a point a unit: the share of the time that it is open, over
    that it is shut."""
    for name, (shut, opened) in gates.items():
        axes.plot(np.ravel(shut), np.ravel(opened), "o", alpha=0.6, label=name)
    axes.plot([0, 1], [1, 0], color="0.8", linewidth=1)
    axes.set(xlabel="shut", ylabel="open", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend()


def plot_over_time(axes: Axes, curves: Mapping[str, ArrayLike]) -> None:
    """Curves over the steps, such as `state_norms`; of `[T, ...]` the mean of the rows."""
    for name, values in curves.items():
        values = np.asarray(values)
        axes.plot(np.mean(values.reshape(len(values), -1), axis=1), label=name)
    axes.set(xlabel="step")
    axes.grid(alpha=0.3)
    axes.legend()

"""The picture of a run: its losses over the steps."""

from pathlib import Path

from jaxrnn.training.run.metrics import read_metrics


def plot_losses(metrics: Path, picture: Path, unit: str) -> None:
    """Draws the training and validation losses of `metrics.jsonl` into a PNG file."""
    # Imported here, since it takes half a second that a resumed step need not wait for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_metrics(metrics)
    training, validation = (
        [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        for name in ("loss", "valid_loss")
    )

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if training:
        steps, losses = zip(*training, strict=True)
        axes.plot(steps, losses, color="0.8", linewidth=0.7, label="training, every step")
        window = max(len(losses) // 50, 1)
        means = [
            sum(losses[i : i + window]) / window
            for i in range(0, len(losses) - window + 1, window)
        ]
        axes.plot(
            steps[window - 1 :: window], means, color="tab:blue", label="training, mean"
        )
    if validation:
        steps, losses = zip(*validation, strict=True)
        axes.plot(
            steps, losses, color="tab:red", marker="o", markersize=3, label="validation"
        )
    axes.set(xlabel="step", ylabel=unit)
    # Without the first training losses, which dwarf all else, and those of a run gone bad.
    if validation:
        axes.set_ylim(top=max(loss for _, loss in validation) * 1.15)
    axes.grid(alpha=0.3)
    if training or validation:
        axes.legend()
    figure.savefig(picture, dpi=130)

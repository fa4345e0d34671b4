"""How runs learned: their figures over the steps, and what they said on the way."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.report.charts import altair, figure, some
from jaxrnn.report.markup import folded, paragraph, text
from jaxrnn.report.record import Record

# Points of a curve of training; of more steps, a point is the mean of several.
POINTS = 600
VALIDATION = "valid_"
TRAINING, EVALUATION = "training", "evaluation"


class Point(NamedTuple):
    """A figure of one run at a step, and the range of the steps that it is the mean of."""

    figure: str
    run: str
    part: str
    step: float
    value: float
    low: float
    high: float


def learning_curves(records: Sequence[Record]) -> str:
    """The chart of everything that the runs logged; a sentence where that is nothing."""
    points = [point for record in records for point in points_of(record)]
    if not points:
        return paragraph("Nothing is logged yet.")
    found = {point.figure for point in points}
    figures = sorted(found, key=lambda name: (name != "loss", name))
    rows = [
        (point.run, point.figure, point.part, round(point.step), point.value)
        for point in points
    ]
    evaluations = [row for row in rows if row[2] == EVALUATION]
    trained = [row for row in rows if row[1:3] == (figures[0], TRAINING)]
    units = ", ".join(dict.fromkeys(record.unit for record in records))
    drawn = figure(
        chart_of(points, figures, several=len(records) > 1),
        f"Learning curves; losses are in {units}.",
        ["run", "figure", "of", "step", "value"],
        some(evaluations) + some(trained),
        logarithmic=False,
    )
    return drawn + paragraph(
        "Drag to move, turn the wheel with Ctrl to zoom, double-click to go back. Pale: "
        "the range of the steps that a point of training is the mean of."
    )


def chart_of(points: Sequence[Point], figures: Sequence[str], several: bool) -> Any:
    """A colour a run, or for a single one a colour for training and one for evaluations."""
    alt = altair()
    parts = alt.Scale(domain=[TRAINING, EVALUATION])
    dashes: dict[str, Any] = {}
    colour = alt.Color("part:N", title=None, scale=parts)
    # Pale colours on a channel of their own, so that the legend is not as pale.
    pale = alt.Fill("part:N", scale=parts, legend=None)
    if several:
        colour, pale = alt.Color("run:N", title="run"), alt.Fill("run:N", legend=None)
        dashes = {"strokeDash": alt.StrokeDash("part:N", title=None, scale=parts)}
    base = (
        alt.Chart(
            alt.Data(values=[point._asdict() for point in points]),
            width="container",
            height=340,
        )
        .transform_filter("datum.figure == figure")
        .transform_filter("datum.step >= first && datum.step <= last")
        .encode(
            x=alt.X("step:Q", title="step", scale=alt.Scale(nice=False)),
            tooltip=["run:N", "part:N", "step:Q", alt.Tooltip("value:Q", format=".5g")],
        )
    )
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    band = (
        base.transform_filter("datum.high > datum.low")
        .mark_area(opacity=0.2, clip=True)
        .encode(y=alt.Y("low:Q", title=None), y2="high:Q", fill=pale)
    )
    line = base.mark_line(clip=True).encode(y=y, color=colour, **dashes)
    dots = (
        base.transform_filter(f"datum.part == '{EVALUATION}'")
        .mark_point(filled=True, clip=True, size=45)
        .encode(y=y, color=colour)
        .add_params(alt.selection_interval(bind="scales", zoom="wheel![event.ctrlKey]"))
    )
    title = alt.TitleParams(text=alt.ExprRef(expr="figure"))
    choices = choices_of(figures, last=max(point.step for point in points))
    return alt.layer(band, line, dots).add_params(*choices).properties(title=title)


def choices_of(figures: Sequence[str], last: float) -> list[Any]:
    """What the reader chooses: a figure, and the steps to look at."""
    alt = altair()
    select = alt.binding_select(options=figures, name="Figure ")
    begin = alt.binding(input="number", name="From step ")
    end = alt.binding(input="number", name="to step ")
    return [
        alt.param("figure", value=figures[0], bind=select),
        alt.param("first", value=0, bind=begin),
        alt.param("last", value=last, bind=end),
    ]


def points_of(record: Record) -> list[Point]:
    """Of every number that the run logged, thinned where it is one of training."""
    logged: dict[str, list[tuple[int, float]]] = {}
    for row in record.rows:
        for name, value in row.items():
            number = isinstance(value, int | float) and math.isfinite(value)
            if number and name != "step":
                logged.setdefault(name, []).append((row["step"], value))
    found = []
    for name, pairs in logged.items():
        shown = name.removeprefix(VALIDATION)
        if shown != name:
            found += [
                Point(shown, record.name, EVALUATION, step, value, value, value)
                for step, value in pairs
            ]
        else:
            found += [Point(shown, record.name, TRAINING, *four) for four in thinned(pairs)]
    return found


def thinned(pairs: Sequence[tuple[int, float]]) -> list[tuple[float, float, float, float]]:
    """(step, mean, lowest, highest) of at most `POINTS` groups of neighbours."""
    groups = np.array_split(np.array(pairs, float), min(POINTS, len(pairs)))
    found = []
    for steps, values in (group.T for group in groups):
        low, high = float(values.min()), float(values.max())
        found.append((float(steps.mean()), float(values.mean()), low, high))
    return found


def samples(records: Sequence[Record]) -> str:
    """What the models said at each evaluation, the newest first."""
    return "".join(
        folded(
            f"{record.name}, step {row['step']}",
            f'<pre class="sample" tabindex="0">{text(row["sample"])}</pre>\n',
            is_open=row is record.rows[-1],
        )
        for record in records
        for row in reversed(record.rows)
        if "sample" in row
    )

"""How runs learned: their figures over the steps, and what they said on the way."""

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
    alt = altair()
    figures = sorted({point.figure for point in points}, key=lambda name: (name != "loss", name))
    chosen = alt.param(
        "figure",
        value=figures[0],
        bind=alt.binding_select(options=figures, name="Figure "),
    )
    ends = [
        alt.param(name, value=value, bind=alt.binding(input="number", name=f"{label} step "))
        for name, label, value in (
            ("first", "From", 0),
            ("last", "to", max(record.step for record in records)),
        )
    ]
    moved = alt.selection_interval(bind="scales", zoom="wheel![event.ctrlKey]")
    several = len(records) > 1
    part = alt.Scale(domain=[TRAINING, EVALUATION])
    drawn = (
        alt.Chart(
            alt.Data(values=[point._asdict() for point in points]),
            width="container",
            height=340,
        )
        .transform_filter("datum.figure == figure")
        .transform_filter("datum.step >= first && datum.step <= last")
        .encode(
            x=alt.X("step:Q", title="step", scale=alt.Scale(nice=False)),
            color=alt.Color("run:N", title="run")
            if several
            else alt.Color("part:N", title=None, scale=part),
            tooltip=[
                alt.Tooltip("run:N"),
                alt.Tooltip("part:N"),
                alt.Tooltip("step:Q"),
                alt.Tooltip("value:Q", format=".5g"),
            ],
        )
    )
    line = drawn.mark_line(clip=True).encode(
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
        strokeDash=alt.StrokeDash("part:N", title=None, scale=part)
        if several
        else alt.Undefined,
    )
    band = (
        drawn.transform_filter("datum.high > datum.low")
        .mark_area(opacity=0.2, clip=True, tooltip=None)
        .encode(y=alt.Y("low:Q", title=None), y2="high:Q")
    )
    dots = (
        drawn.transform_filter(f"datum.part == '{EVALUATION}'")
        .mark_point(filled=True, clip=True, size=45)
        .encode(y=alt.Y("value:Q", title=None))
    )
    chart = alt.layer(band, line, dots.add_params(moved)).add_params(chosen, *ends)
    chart = chart.properties(title=alt.TitleParams(text=alt.ExprRef(expr="figure")))
    rows = [
        (point.run, point.figure, point.part, round(point.step), point.value)
        for point in points
    ]
    evaluations = [row for row in rows if row[2] == EVALUATION]
    trained = [row for row in rows if row[1:3] == (figures[0], TRAINING)]
    units = ", ".join(dict.fromkeys(record.unit for record in records))
    return figure(
        chart,
        f"Learning curves; losses are in {units}.",
        ["run", "figure", "of", "step", "value"],
        some(evaluations) + some(trained),
        logarithmic=False,
    ) + paragraph(
        "Drag to move, turn the wheel with Ctrl to zoom, double-click to go back. Pale: the "
        "range of the steps that a point of training is the mean of."
    )


def points_of(record: Record) -> list[Point]:
    """Of every number that the run logged, thinned where it is one of training."""
    logged: dict[str, list[tuple[int, float]]] = {}
    for row in record.rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
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
    return [
        (float(steps.mean()), float(values.mean()), float(values.min()), float(values.max()))
        for steps, values in (group.T for group in groups)
    ]


def samples(records: Sequence[Record]) -> str:
    """What the models said at each evaluation, the newest first and open."""
    told = []
    for record in records:
        kept: list[tuple[Any, Any]] = [
            (row["step"], row["sample"]) for row in record.rows if "sample" in row
        ]
        for number, (step, sample) in enumerate(reversed(kept)):
            block = f'<pre class="sample" tabindex="0">{text(sample)}</pre>\n'
            shown = folded(f"{record.name}, step {step}", block)
            told.append(shown.replace("<details>", "<details open>") if not number else shown)
    return "".join(told)

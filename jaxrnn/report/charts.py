"""Charts of Vega-Altair in a page that needs nothing else: one library inside it, and every
chart as its definition, with a caption and its numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.typing import ArrayLike

from jaxrnn.report.markup import data, folded, table, text

if TYPE_CHECKING:  # Altair takes a second to import
    import altair as alt

# Rows of a table that stands for a chart.
TABLE_ROWS = 60


def altair() -> Any:
    """The library that draws."""
    import altair

    return altair


def library() -> str:
    """The program that shows charts, to be written into a page."""
    import vl_convert

    program = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # Nothing in it may end the element that it stands in.
    return "<script>" + program.replace("</script", "<\\/script") + "</script>\n"


def figure(
    chart: alt.Chart | alt.LayerChart,
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    logarithmic: bool | None = None,
) -> str:
    """A chart, with the table of `rows` for those who read rather than see it.

    logarithmic: whether its vertical axis is so at first, where the reader can change that;
    None where it cannot be.
    """
    definition = chart.properties(description=caption).to_dict()
    switch = ""
    if logarithmic is not None:
        checked = " checked" if logarithmic else ""
        switch = (
            f'<label><input type="checkbox" class="logarithmic"{checked}> '
            "Logarithmic axis</label>\n"
        )
    return (
        f'<figure class="chart">\n<figcaption>{text(caption)}</figcaption>\n{switch}'
        f'<div class="drawing"></div>\n{data(definition)}'
        f"{folded('As a table', table(caption, head, rows))}</figure>\n"
    )


def some(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """So many of them as fit a table, evenly spread, the first and the last among them."""
    if len(rows) <= TABLE_ROWS:
        return list(rows)
    chosen = np.linspace(0, len(rows) - 1, TABLE_ROWS).round().astype(int)
    return [rows[index] for index in chosen]


def curves(
    named: Mapping[str, ArrayLike], x: str, y: str, caption: str, *, logarithmic: bool
) -> str:
    """A line a name over 0, 1, ...; what is not finite, or has no place on a logarithmic
    axis, is left out."""
    alt = altair()
    rows = [
        (name, index, float(value))
        for name, values in named.items()
        for index, value in enumerate(np.ravel(np.asarray(values, float)))
        if np.isfinite(value) and (value > 0 or not logarithmic)
    ]
    values = [{"name": name, "x": at, "y": value} for name, at, value in rows]
    kind = "log" if logarithmic else "linear"
    chart = (
        alt.Chart(alt.Data(values=values), width="container", height=260)
        .mark_line(point=alt.OverlayMarkDef(size=12))
        .encode(
            x=alt.X("x:Q", title=x, axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("y:Q", title=y, scale=alt.Scale(type=kind)),
            color=alt.Color("name:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=[
                alt.Tooltip("name:N"),
                alt.Tooltip("x:Q", title=x),
                alt.Tooltip("y:Q", title=y, format=".4g"),
            ],
        )
    )
    return figure(chart, caption, ["", x, y], some(rows), logarithmic=logarithmic)


def over_tokens(
    tokens: Sequence[str], named: Mapping[str, ArrayLike], y: str, caption: str
) -> str:
    """A line a name, with a value in [0, 1] at each token."""
    alt = altair()
    places = in_order(tokens)
    rows = [
        (name, token, float(value))
        for name, values in named.items()
        for token, value in zip(tokens, np.asarray(values, float), strict=True)
    ]
    values = [
        {"name": name, "place": place, "y": value}
        for (name, _, value), place in zip(rows, places * len(named), strict=True)
    ]
    chart = (
        alt.Chart(alt.Data(values=values), width="container", height=220)
        .mark_line(point=True)
        .encode(
            x=alt.X("place:O", title=None, sort=places, axis=token_axis(labelAngle=-45)),
            y=alt.Y("y:Q", title=y, scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("name:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=[alt.Tooltip(f"{field}:N") for field in ("name", "place", "y")],
        )
    )
    return figure(chart, caption, ["", "token", y], rows)


def squares(
    rows: Sequence[str], columns: Sequence[str], weights: ArrayLike, caption: str
) -> str:
    """Weights `[rows, columns]` in [0, 1] as squares, a row and a column a token."""
    alt = altair()
    weights = np.asarray(weights, float)
    down, along = in_order(rows), in_order(columns)
    above = token_axis(orient="top", labelAngle=-45)
    values = [
        {"row": down[i], "column": along[j], "weight": float(weights[i, j])}
        for i in range(len(rows))
        for j in range(len(columns))
    ]
    chart = (
        alt.Chart(
            alt.Data(values=values),
            width=alt.Step(34),
            height=alt.Step(26),
        )
        .mark_rect()
        .encode(
            x=alt.X("column:O", title=None, sort=along, axis=above),
            y=alt.Y("row:O", title=None, sort=down, axis=token_axis()),
            color=alt.Color("weight:Q", scale=alt.Scale(domain=[0, 1], scheme="viridis")),
            tooltip=[
                alt.Tooltip("row:N"),
                alt.Tooltip("column:N"),
                alt.Tooltip("weight:Q", format=".3f"),
            ],
        )
    )
    table_rows = [
        (token, *(f"{weight:.2f}" for weight in line))
        for token, line in zip(rows, weights, strict=True)
    ]
    return figure(chart, caption, ["", *columns], table_rows)


def in_order(tokens: Sequence[str]) -> list[str]:
    """The tokens with their number before them: no two are the same."""
    return [f"{number} {token}" for number, token in enumerate(tokens)]


def token_axis(**options: Any) -> alt.Axis:
    """An axis of `in_order`, which shows the tokens alone."""
    after = "slice(datum.label, indexof(datum.label, ' ') + 1)"
    return altair().Axis(labelExpr=after, labelLimit=160, ticks=False, **options)

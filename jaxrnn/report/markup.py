"""HTML from what runs and users write, all of it escaped."""

import html
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any


def text(value: Any) -> str:
    """A value as a reader wants it, escaped."""
    if isinstance(value, float) and math.isfinite(value):
        value = f"{value:.5g}"
    return html.escape("" if value is None else str(value))


def paragraph(value: Any) -> str:
    return f"<p>{text(value)}</p>\n"


def table(caption: str, head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """The first cell of a row heads it."""
    heads = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    lines = [
        f'<tr><th scope="row">{text(first)}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for first, *cells in rows
    ]
    return (
        f'<div class="scrolls" tabindex="0" role="region" aria-label="{text(caption)}">'
        f"<table><caption>{text(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{''.join(lines)}</tbody></table></div>\n"
    )


def folded(summary: str, inner: str, *, is_open: bool = False) -> str:
    """What is shown when it is asked for, or until it is put away."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{text(summary)}</summary>\n{inner}</details>\n"


def data(value: Any) -> str:
    """JSON for a script of the page, in which no text can end the element."""
    # The only character that HTML looks for there; JSON has an escape for it.
    written = json.dumps(value, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json">{written}</script>\n'

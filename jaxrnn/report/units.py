"""The unit explorer: texts coloured by what the units and gates of a model do, and how long
each unit remembers."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.diagnostics import Within, memory_horizon, saturation, within
from jaxrnn.flax import RNN
from jaxrnn.report.charts import altair, curves, figure, some
from jaxrnn.report.markup import data, paragraph, table
from jaxrnn.training.run.opened import Section

TOKENS = 600  # of a text are read at most
# Numbers of units that a page holds of one run, a byte each. Of more, units are left out.
NUMBERS = 800_000
LEVELS, NONE = 254, 255  # of a byte: the highest level, and no number
SURPRISES = 25
BEFORE = 12  # tokens told before a surprising one

ABOUT = (
    "Red is above zero, blue below; the paler, the nearer to zero. Units stand in the "
    "order of their memory horizon: the steps after which 1/e of what a unit holds is "
    "left. In the text, the arrow keys go from token to token. Of a text the first "
    f"{TOKENS} tokens are read."
)


class Reading(NamedTuple):
    """A text as a model has read it: T tokens, and what each cell did at them."""

    tokens: Sequence[str]  # T, with white space as the text has it
    cells: Mapping[str, Within]  # by a name for the reader
    nats: np.ndarray | None = None  # [T], of each token given those before; NaN for none


class Signal(NamedTuple):
    """A number a unit at every token: what a text is coloured by."""

    name: str
    values: np.ndarray  # [T, units]
    horizons: np.ndarray | None  # [units], in steps


def read_layers(layers: Iterable[RNN], xs: Array, lags: int = 0) -> dict[str, Within]:
    """What each cell of layers above one another does on xs `[T, D]`, by name; lags are
    those of `jaxrnn.diagnostics.within`."""
    cells: dict[str, Within] = {}
    for number, layer in enumerate(layers, 1):
        parts, xs = within(layer.recurrence, layer.arrays(), xs, lags)
        for part, one in enumerate(parts, 1):
            name = f"layer {number}" + (", backwards" if one.backwards else "")
            cells[f"{name}, part {part}" if name in cells else name] = one
    return cells


def explorer(
    readings: Sequence[Reading],
    by_lag: Mapping[str, Any] = MappingProxyType({}),
    about_lag: str = "",
) -> list[Section]:
    """The sections on what units do, on how long they remember, and on what surprised.

    by_lag: curves of `gradient_by_lag` by name; about_lag says what of. Raises ValueError
    without a reading.
    """
    if not readings:
        raise ValueError("there is no text to read")
    horizons = horizons_of(readings)
    colours = Section("what each unit does", coloured(readings, horizons))
    memory = Section("how it remembers", memories(readings, horizons, by_lag, about_lag))
    surprises = Section("what surprised it", "".join(map(surprising, readings)))
    return [part for part in (colours, memory, surprises) if part.html]


def horizons_of(readings: Sequence[Reading]) -> dict[str, np.ndarray]:
    """`memory_horizon` over all the texts, by cell; of those that forget by a gate."""
    return {
        name: np.asarray(
            memory_horizon(
                jnp.concatenate([read.cells[name].gates["forget"] for read in readings])
            )
        ).ravel()
        for name, cell in readings[0].cells.items()
        if "forget" in cell.gates
    }


def signals(reading: Reading, horizons: Mapping[str, np.ndarray]) -> list[Signal]:
    found = []
    for name, cell in reading.cells.items():
        every = {"output": cell.ys, **{f"{gate} gate": x for gate, x in cell.gates.items()}}
        memory = horizons.get(name)
        for kind, values in every.items():
            flat = np.asarray(values, float).reshape(len(values), -1)
            fits = memory is not None and len(memory) == flat.shape[1]
            found.append(Signal(f"{name}: {kind}", flat, memory if fits else None))
    if reading.nats is not None:
        bits = np.asarray(reading.nats)[:, None] / np.log(2)
        found.append(Signal("surprise, in bits", bits, None))
    return found


def coloured(readings: Sequence[Reading], horizons: Mapping[str, np.ndarray]) -> str:
    """The texts, and what they are coloured by, for the page's script to show."""
    every = [signals(reading, horizons) for reading in readings]
    columns = sum(len(signal.values) for found in every for signal in found)
    units = max(NUMBERS // max(columns, 1), 1)
    widest = max((x.values.shape[1] for found in every for x in found), default=0)
    texts = [
        {
            "name": f"{number}: {''.join(reading.tokens).strip()[:60]}",
            "tokens": list(reading.tokens),
            "signals": [packed(signal, units) for signal in found],
        }
        for number, reading, found in zip(count(1), readings, every)
    ]
    told = ""
    if widest > units:
        told = paragraph(
            f"Of {widest} units {units} are shown, from those that remember the longest to "
            "those that forget at once: fewer or shorter texts leave room for more."
        )
    return f"""<div class="units">
{paragraph(ABOUT)}{told}<form class="controls" autocomplete="off">
<label>Text <select class="text"></select></label>
<label>Coloured by <select class="signal"></select></label>
<label>Unit <select class="unit"></select></label>
<button type="button" class="previous">Previous unit</button>
<button type="button" class="next">Next unit</button>
</form>
<p><span class="low"></span>
<span class="scale" role="img" aria-label="scale of colours"></span>
<span class="high"></span> <output class="readout"></output></p>
<div class="coloured" tabindex="0" role="group" aria-label="The coloured text"></div>
<details><summary>As a table</summary>
<div class="scrolls numbers" tabindex="0" role="region" aria-label="The numbers"></div>
</details>
{data(texts)}</div>
"""


def packed(signal: Signal, most: int) -> dict[str, Any]:
    """A byte a number, of at most so many units, from long to short memory."""
    values, horizons = signal.values, signal.horizons
    order = np.arange(values.shape[1])
    if horizons is not None:
        order = np.argsort(-horizons, kind="stable")
    if len(order) > most:
        order = order[np.linspace(0, len(order) - 1, most).round().astype(int)]
    values = values[:, order]
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    low = -largest if np.nanmin(values, initial=0.0) < 0 else 0.0
    levels = np.round((values - low) / (largest - low) * LEVELS)
    bytes_of = np.where(np.isfinite(values), levels, NONE).astype(np.uint8)
    return {
        "name": signal.name,
        "low": low,
        "high": largest,
        "units": [
            f"{unit}"
            if horizons is None
            else f"{unit}, {steps_shown(float(horizons[unit]))}"
            for unit in order
        ],
        "bytes": base64.b64encode(bytes_of.T.tobytes()).decode(),
    }


def steps_shown(horizon: float) -> str:
    if not np.isfinite(horizon):
        return "forgets nothing"
    return f"remembers {horizon:.3g} steps"


def memories(
    readings: Sequence[Reading],
    horizons: Mapping[str, np.ndarray],
    by_lag: Mapping[str, Any],
    about_lag: str,
) -> str:
    """The charts of horizons, of how firmly gates stand, and of the gradient by lag."""
    told = ""
    if horizons:
        ordered = {name: -np.sort(-memory) for name, memory in horizons.items()}
        told += curves(
            ordered,
            "units, from long to short memory",
            "memory horizon, in steps",
            "How long each unit remembers: the steps after which 1/e of it is left.",
            logarithmic=True,
        )
    if by_lag:
        told += curves(
            by_lag, "lag, in steps", "norm of the gradient", about_lag, logarithmic=True
        )
    return told + saturations(readings)


def saturations(readings: Sequence[Reading]) -> str:
    """A point a unit of each gate: how often it is open, over how often it is shut."""
    rows = []
    for name, cell in readings[0].cells.items():
        for gate in cell.gates:
            values = [np.asarray(read.cells[name].gates[gate], float) for read in readings]
            stands = saturation(jnp.concatenate([x.reshape(len(x), -1) for x in values]))
            pairs = zip(np.asarray(stands.shut), np.asarray(stands.open), strict=True)
            rows += [
                (f"{name}: {gate}", unit, float(shut), float(opened))
                for unit, (shut, opened) in enumerate(pairs)
            ]
    if not rows:
        return ""
    alt = altair()
    columns = ("gate", "unit", "shut", "open")
    values = [dict(zip(columns, row, strict=True)) for row in rows]
    share = alt.Scale(domain=[0, 1])
    chart = (
        alt.Chart(alt.Data(values=values), width="container", height=300)
        .mark_point(filled=True, opacity=0.6)
        .encode(
            x=alt.X("shut:Q", title="share of the time shut", scale=share),
            y=alt.Y("open:Q", title="share of the time open", scale=share),
            color=alt.Color("gate:N", legend=alt.Legend(labelLimit=300)),
            tooltip=["gate:N", "unit:Q", "shut:Q", "open:Q"],
        )
    )
    caption = "How firmly gates stand: shut is below 0.1, open above 0.9."
    return figure(chart, caption, columns, some(rows))


def surprising(reading: Reading) -> str:
    """The tokens that the model expected the least, with what stood before them."""
    if reading.nats is None:
        return ""
    nats = np.asarray(reading.nats)
    known = np.flatnonzero(np.isfinite(nats))
    worst = known[np.argsort(-nats[known], kind="stable")][:SURPRISES]
    rows = [
        (
            repr(reading.tokens[at])[1:-1],
            f"{nats[at] / np.log(2):.2f}",
            f"{np.exp(-nats[at]):.2g}",
            int(at),
            repr("".join(reading.tokens[max(at - BEFORE, 0) : at]))[1:-1],
        )
        for at in worst
    ]
    start = "".join(reading.tokens)[:60].strip()
    head = ["token", "bits", "probability", "at", "after"]
    return table(f"The least expected tokens of: {start}", head, rows)

"""Tables with headings, as spreadsheets and other programs write them (RFC 4180)."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from jaxrnn.data.text_files import Row, read_text

DELIMITERS = (",", ";", "\t")


def read_named(path: Path, names: Sequence[str]) -> list[Row]:
    """The columns with the headings `names`, in that order, of a file whose first line
    holds headings; commas, semicolons or tabs divide it, whichever divide its first line
    into these. A field in quotes may hold line ends. Blank lines are left out; a row has
    the number of the line that it ends in.

    Raises ValueError as `read_text` does, and if a heading is missing or there twice, or a
    row has more or fewer fields than there are headings.
    """
    text = read_text(path)
    first = text.partition("\n")[0].removesuffix("\r")
    divided = {mark: next(csv.reader([first], delimiter=mark)) for mark in DELIMITERS}
    headings = {mark: [name.strip() for name in found] for mark, found in divided.items()}
    fitting = [mark for mark in DELIMITERS if set(names) <= set(headings[mark])]
    if not fitting:
        longest = max(headings.values(), key=len)
        raise ValueError(
            f"{path} has no columns {' and '.join(map(repr, names))}: its first line has "
            f"{', '.join(map(repr, longest))}"
        )
    there = headings[fitting[0]]
    for name in names:
        if there.count(name) > 1:
            raise ValueError(f"{path} has {there.count(name)} columns {name!r}")
    places = [there.index(name) for name in names]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=fitting[0], strict=True)
    rows = []
    try:
        next(reader)
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(there):
                raise ValueError(
                    f"line {reader.line_num} of {path} has {len(fields)} fields, its first "
                    f"line {len(there)}"
                )
            rows.append(Row(reader.line_num, [fields[place] for place in places]))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of {path}: {error}") from None
    return rows

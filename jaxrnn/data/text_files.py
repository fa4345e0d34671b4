"""Text files: their characters, their lines, their columns.

A line ends at the line feed and nowhere else; a carriage return directly before it belongs
to the end. Everything else, the separators that `str.splitlines` knows among it, stands
within a text. What cannot be read so is refused with the name of the file.
"""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxrnn.data.files import read_bytes

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def read_text(path: Path, encodings: Sequence[str] = ("utf-8",)) -> str:
    """A file's characters in the first of `encodings` that fits, without the mark that
    some editors begin UTF-8 with.

    Raises ValueError if the file cannot be unpacked, is empty, holds a NUL, or fits none.
    """
    content = read_bytes(path)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(
            f"{path} is not {encodings[0].upper()} text, it is UTF-16; to convert it: "
            "iconv -f UTF-16 -t UTF-8"
        )
    text = _decoded(path, content, encodings)
    if not text:
        raise ValueError(f"{path} is empty")
    if "\0" in text:
        raise ValueError(
            f"{path} is not text, or UTF-16 without its mark: it holds a NUL in line "
            f"{_line_of(content, content.index(0))}"
        )
    return text


def read_lines(path: Path, encodings: Sequence[str] = ("utf-8",)) -> list[str]:
    """The lines of a file, blank ones too, without their ends.

    Raises ValueError as `read_text` does, and if lines end with carriage returns alone.
    """
    text = read_text(path, encodings)
    if "\n" not in text and "\r" in text.removesuffix("\r"):
        raise ValueError(
            f"the lines of {path} end with carriage returns alone; to convert it: "
            r"tr '\r' '\n'"
        )
    lines = text.removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines]


class Row(NamedTuple):
    """A line that is not blank: its number in the file, from 1, and what tabs divide."""

    number: int
    columns: list[str]


def read_rows(path: Path, most: int = 0) -> list[Row]:
    """The lines of a file, blank ones left out, in columns with tabs between; of `most`
    columns, where that is given, the last one holds what tabs there are beyond.

    Where a spreadsheet wrote the file, the quotes around its fields are taken off: where
    a field holds quotes doubled within quotes, or every field has quotes around it.
    Raises ValueError as `read_lines` does.
    """
    rows = [
        Row(number, line.split("\t", most - 1))
        for number, line in enumerate(read_lines(path), 1)
        if line.strip()
    ]
    fields = [column for row in rows for column in row.columns]
    quoted = [field for field in fields if _QUOTED.fullmatch(field)]
    if len(quoted) == len(fields) or any('""' in field[1:-1] for field in quoted):
        return [Row(number, list(map(_unquoted, columns))) for number, columns in rows]
    return rows


def _decoded(path: Path, content: bytes, encodings: Sequence[str]) -> str:
    wrong = 0
    for encoding in encodings:
        try:
            return content.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            wrong = error.start
    raise ValueError(
        f"{path} is not {' or '.join(encodings).upper()} text: byte "
        f"0x{content[wrong]:02x} in line {_line_of(content, wrong)}; to convert it, from "
        "latin-1 for example: iconv -f LATIN1 -t UTF-8"
    )


def _line_of(content: bytes, place: int) -> int:
    return content.count(b"\n", 0, place) + 1


def _unquoted(field: str) -> str:
    quoted = _QUOTED.fullmatch(field)
    return quoted[1].replace('""', '"') if quoted else field

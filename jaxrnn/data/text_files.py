"""Text files: their characters, their lines, their columns.

A line ends at the line feed and nowhere else; a carriage return directly before it belongs
to the end. Everything else, the separators that `str.splitlines` knows among it, stands
within a text. What cannot be read so is refused with the name of the file.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from jaxrnn.data.files import read_bytes, read_pieces
from jaxrnn.data.pieces import PIECE

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def read_text(path: Path, encodings: Sequence[str] = ("utf-8",)) -> str:
    """A file's characters in the first of `encodings` that fits, without the mark that
    some editors begin UTF-8 with.

    Raises ValueError if the file cannot be unpacked, is empty, holds a NUL, or fits none.
    """
    content = read_bytes(path)
    _check_mark(path, content, encodings[0])
    text = _decoded(path, content, encodings)
    if not text:
        raise ValueError(f"{path} is empty")
    _check_nul(path, content, 1)
    return text


def read_text_pieces(path: Path, size: int = PIECE) -> Iterator[str]:
    """The same characters in UTF-8, in pieces of at most `size` bytes, which are 3 or more.

    Raises ValueError as `read_text` does.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    read, line, empty = 0, 1, True
    for content in chain(read_pieces(path, size), [b""]):
        if not read:
            _check_mark(path, content, "utf-8")
            read = len(codecs.BOM_UTF8) * content.startswith(codecs.BOM_UTF8)
            content = content[read:]
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(content, final=not content)
        except UnicodeDecodeError as error:
            place = error.start - held
            line += content.count(b"\n", 0, max(0, place))
            byte = error.object[error.start]
            raise _not_text(path, ("utf-8",), byte, line, read + place) from None
        _check_nul(path, content, line)
        read += len(content)
        line += content.count(b"\n")
        empty = empty and not text
        yield text
    if empty:
        raise ValueError(f"{path} is empty")


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


def _check_mark(path: Path, beginning: bytes, encoding: str) -> None:
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(
            f"{path} is not {encoding.upper()} text, it is UTF-16; to convert it: "
            "iconv -f UTF-16 -t UTF-8"
        )


def _check_nul(path: Path, content: bytes, line: int) -> None:
    """Of a file's bytes from the beginning of `line` on, or from within it."""
    if (place := content.find(0)) >= 0:
        line += content.count(b"\n", 0, place)
        raise ValueError(
            f"{path} is not text, or UTF-16 without its mark: it holds a NUL in line {line}"
        )


def _decoded(path: Path, content: bytes, encodings: Sequence[str]) -> str:
    wrong = 0
    for encoding in encodings:
        try:
            return content.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            wrong = error.start
    line = content.count(b"\n", 0, wrong) + 1
    raise _not_text(path, encodings, content[wrong], line, wrong)


def _not_text(
    path: Path, encodings: Sequence[str], byte: int, line: int, place: int
) -> ValueError:
    return ValueError(
        f"{path} is not {' or '.join(encodings).upper()} text: byte 0x{byte:02x} in line "
        f"{line}, {place} bytes from the beginning; to convert it, from latin-1 for "
        "example: iconv -f LATIN1 -t UTF-8"
    )


def _unquoted(field: str) -> str:
    quoted = _QUOTED.fullmatch(field)
    return quoted[1].replace('""', '"') if quoted else field

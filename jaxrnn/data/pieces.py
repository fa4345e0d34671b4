"""A text that comes in pieces, cut anywhere: one too large for the memory, for one.

What is made of the pieces is what would be made of the text in one.
"""

from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

PIECE = 1 << 20  # bytes


def pieces_of(content: bytes, size: int = PIECE) -> Iterator[bytes]:
    """The content in pieces of `size` bytes, the last one shorter.

    Raises ValueError for a str.
    """
    if isinstance(content, str):
        raise ValueError("a text is given as bytes, such as text.encode(), got a str")
    for start in range(0, len(content), size):
        yield content[start : start + size]


def pieces_between(path: Path, start: int, end: int, size: int = PIECE) -> Iterator[bytes]:
    """The bytes of a file from `start` up to `end`."""
    with path.open("rb") as file:
        file.seek(start)
        for place in range(start, end, size):
            yield file.read(min(size, end - place))


def characters(pieces: Iterable[bytes], errors: str = "strict") -> Iterator[str]:
    """UTF-8, decoded; a character lies in the piece that its last byte is in."""
    decoder = getincrementaldecoder("utf-8")(errors)
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def whole_words(texts: Iterable[str]) -> Iterator[str]:
    """The same text in pieces that begin with the white space after a word: neither a
    word nor a stretch of white space is cut."""
    held: list[str] = []  # since the last end of a word, so that a long word costs no more
    for text in texts:
        end = _last_end_of_word(text)
        if end:
            yield "".join([*held, text[:end]])
            held = [text[end:]]
        elif held and text[:1] in _SPACES and held[-1][-1:].strip():
            yield "".join(held)
            held = [text]
        else:
            held.append(text)
    yield "".join(held)


def code_points(text: str) -> np.ndarray:
    """`[N]` uint32"""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


# What is white space to everyone; Python alone counts some control characters to it.
_SPACES = tuple(" \t\n\r")


def _last_end_of_word(text: str) -> int:
    """Where white space follows upon a word for the last time; 0 if it does nowhere."""
    end = len(text)
    while (end := max(text.rfind(" ", 0, end), text.rfind("\n", 0, end))) > 0:
        end = len(text[:end].rstrip())
        if text[end] in _SPACES:
            return end
    return 0

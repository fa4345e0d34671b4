"""A text from a file or a folder, split for training, validation and test."""

import re
from pathlib import Path

from jaxrnn.data.files import files_of, locate_all, read_bytes
from jaxrnn.data.text_files import read_text

SPLITS = ("train", "valid", "test")


def read_splits(
    data: Path, shares: tuple[float, float, float], tokens: str = "character"
) -> dict[str, bytes]:
    """The text of each split in UTF-8; `test` is missing where there is none.

    A file is cut by `shares` in its order. A folder has one file a split, known by its
    name; else all files in it and below, in the order of their paths, are one text, and so
    are those that a pattern such as "books/*.txt" fits. Where `tokens` is "byte", any bytes
    will do. Raises ValueError if there is no such text.
    """
    found = locate_all(data)
    if len(found) == 1 and found[0].is_dir():
        (folder,) = found
        here = [path for path in files_of(folder) if path.parent == folder]
        if any(is_for(name, path) for name in SPLITS for path in here):
            return _folder(folder, here, tokens)
    return _cut(data, read_whole(data, tokens), shares)


def read_whole(data: Path, tokens: str = "character") -> bytes:
    """All of a file, a folder or a pattern as one text, as `read_splits` reads it."""
    files = [path for found in locate_all(data) for path in files_of(found)]
    if not files:
        raise ValueError(f"{data} has no file in it")
    return b"\n".join(_content(path, tokens) for path in files)


def _content(path: Path, tokens: str) -> bytes:
    if tokens != "byte":
        return read_text(path).encode()
    content = read_bytes(path)
    if not content:
        raise ValueError(f"{path} is empty")
    return content


def _cut(
    path: Path, content: bytes, shares: tuple[float, float, float]
) -> dict[str, bytes]:
    """Between characters; a byte that belongs to none counts as one."""
    text = content.decode("utf-8", "surrogateescape")
    return {
        name: text[start:end].encode("utf-8", "surrogateescape")
        for name, (start, end) in divide(path, len(text), shares).items()
    }


def divide(
    path: Path, length: int, shares: tuple[float, float, float]
) -> dict[str, tuple[int, int]]:
    """Where each split of a text of `length` characters begins and ends; `test` is missing
    where its share is none. Raises ValueError for shares that make no split, and for a text
    that is too short."""
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or shares[0] == 0 or shares[1] == 0:
        raise ValueError(
            f"split needs three shares that add up to 1, training and validation above 0, "
            f"got {shares}"
        )
    first = int(shares[0] * length)
    second = min(int((shares[0] + shares[1]) * length), length)
    places = {"train": (0, first), "valid": (first, second)}
    if second < length:
        places["test"] = (second, length)
    if not all(start < end for start, end in places.values()):
        raise ValueError(f"{path} is too short to divide: it has {length} characters")
    return places


def is_for(split: str, path: Path) -> bool:
    """Whether a word of the file's name begins with that of the split: "latest" is none."""
    return re.search(rf"(?<![a-z]){split}", path.name) is not None


def _folder(folder: Path, files: list[Path], tokens: str) -> dict[str, bytes]:
    splits = {}
    for name in SPLITS:
        found = [path for path in files if is_for(name, path)]
        if len(found) > 1:
            names = ", ".join(p.name for p in found)
            raise ValueError(f"{folder} has several files for {name!r}: {names}")
        if found:
            splits[name] = _content(found[0], tokens)
        elif name != "test":
            raise ValueError(
                f"{folder} has no file with {name!r} at the beginning of a word of its name"
            )
    return splits

"""A text from a file or a folder, split for training, validation and test."""

import re
from pathlib import Path

from jaxrnn.data.files import locate, read_bytes
from jaxrnn.data.text_files import read_text

SPLITS = ("train", "valid", "test")


def read_splits(
    data: Path, shares: tuple[float, float, float], tokens: str = "character"
) -> dict[str, bytes]:
    """The text of each split in UTF-8; `test` is missing where there is none.

    A file is cut by `shares` in its order; a folder has one file a split, known by its
    name, or one file. Where `tokens` is "byte", any bytes will do. Raises ValueError if
    there is no such text.
    """
    data = locate(data)
    if data.is_dir():
        files = sorted(path for path in data.iterdir() if path.is_file())
        files = [path for path in files if not path.name.startswith(".")]
        if len(files) != 1 or any(is_for(name, files[0]) for name in SPLITS):
            return _folder(data, files, tokens)
        data = files[0]
    return _cut(data, _content(data, tokens), shares)


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

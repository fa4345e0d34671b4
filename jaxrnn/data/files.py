"""Files of data: where they lie, their bytes unpacked, and a digest of them."""

import glob
import gzip
import hashlib
import json
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxrnn.data.pieces import PIECE, pieces_of


def locate(data: Path) -> Path:
    """The whole path of a file or folder, looked for from here and then in the folder
    that JAXRNN_DATA names. Raises ValueError if it is in neither."""
    for place in (Path(), Path(os.environ.get("JAXRNN_DATA", ""))):
        # Links are left as they are: the name tells whether a file is packed.
        if (found := place / os.path.expanduser(data)).exists():
            return found.absolute()
    raise ValueError(f"no data at {data}: --data takes a file or a folder")


def locate_all(data: Path) -> list[Path]:
    """The same of a file or folder, or of all that a pattern such as "books/*.txt" fits, in
    the order of their names. Raises ValueError if there is nothing."""
    try:
        return [locate(data)]  # whose name may look like a pattern
    except ValueError:
        for place in (Path(), Path(os.environ.get("JAXRNN_DATA", ""))):
            pattern = str(place / os.path.expanduser(data))
            if found := sorted(glob.glob(pattern, recursive=True)):
                return [Path(path).absolute() for path in found]
        raise


def files_of(path: Path) -> list[Path]:
    """A file itself, or all files in a folder and below, in the order of their paths; what
    begins with a dot is hidden."""
    if not path.is_dir():
        return [path]
    return sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )


def read_bytes(path: Path) -> bytes:
    """A file's content, that of .xz and .gz unpacked.

    Raises ValueError if it is damaged, or if there is a folder or nothing in its place.
    """
    return b"".join(read_pieces(path))


def read_pieces(path: Path, size: int = PIECE) -> Iterator[bytes]:
    """The same in pieces of at most `size` bytes."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    with file:
        if path.suffix not in UNPACK:
            yield from iter(lambda: file.read(size), b"")
            return
        try:
            unpacked = UNPACK[path.suffix](file)
            while piece := unpacked.read(size):
                yield piece
        except (lzma.LZMAError, OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} cannot be unpacked: {error}") from None


UNPACK = {".xz": lzma.open, ".gz": gzip.open}


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises ValueError if there is none, or something else."""
    try:
        return json.loads(read_bytes(path).decode())
    except ValueError as error:
        raise ValueError(f"{path} is not a file of JSON: {error}") from None


def digest(parts: Mapping[str, bytes]) -> str:
    """SHA-256 over the names and contents of the parts of a data set."""
    return digest_of_pieces(
        {name: (len(part), pieces_of(part)) for name, part in parts.items()}
    )


def digest_of_pieces(parts: Mapping[str, tuple[int, Iterable[bytes]]]) -> str:
    """The same of the length and the pieces of each part."""
    whole = hashlib.sha256()
    for name, (length, pieces) in sorted(parts.items()):
        whole.update(f"{name} {length}\n".encode())
        for piece in pieces:
            whole.update(piece)
    return whole.hexdigest()


def text_digest(text: str) -> str:
    """The SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()

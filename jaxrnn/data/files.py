"""Files of data: where they lie, their bytes unpacked, and a digest of them."""

import gzip
import hashlib
import json
import lzma
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def locate(data: Path) -> Path:
    """The whole path of a file or folder, looked for from here and then in the folder
    that JAXRNN_DATA names. Raises ValueError if it is in neither."""
    for place in (Path(), Path(os.environ.get("JAXRNN_DATA", ""))):
        # Links are left as they are: the name tells whether a file is packed.
        if (found := place / os.path.expanduser(data)).exists():
            return found.absolute()
    raise ValueError(f"no data at {data}: --data takes a file or a folder")


def read_bytes(path: Path) -> bytes:
    """A file's content, that of .xz and .gz unpacked.

    Raises ValueError if it is damaged, or if there is a folder or nothing in its place.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    try:
        if path.suffix == ".xz":
            return lzma.decompress(content)
        if path.suffix == ".gz":
            return gzip.decompress(content)
    except (lzma.LZMAError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from None
    return content


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises ValueError if there is none, or something else."""
    try:
        return json.loads(read_bytes(path).decode())
    except ValueError as error:
        raise ValueError(f"{path} is not a file of JSON: {error}") from None


def digest(parts: Mapping[str, bytes]) -> str:
    """SHA-256 over the names and contents of the parts of a data set."""
    whole = hashlib.sha256()
    for name in sorted(parts):
        whole.update(f"{name} {len(parts[name])}\n".encode())
        whole.update(parts[name])
    return whole.hexdigest()


def text_digest(text: str) -> str:
    """The SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()

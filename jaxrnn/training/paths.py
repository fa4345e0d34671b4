"""Paths as people write them, made whole, and as libraries read them."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Orbax looks for files by patterns that begin with the whole path, where * ? [ ] choose
# among others; TensorStore takes \ for a slash.
READ_INTO = re.compile(r"[*?\[\]\\]")


def whole_path(path: str | os.PathLike[str]) -> Path:
    """The path from the root on, without `~`, `.`, `..` or links: the same from now on,
    wherever the process goes. Raises ValueError for a URL."""
    written = os.fspath(path)
    # pathlib makes gs:/bucket of gs://bucket.
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", written):
        raise ValueError(
            f"{written} is a URL; what is wanted is a folder of this machine's file system"
        )
    return Path(os.path.realpath(os.path.expanduser(written)))


@contextmanager
def plainly_named(folder: Path) -> Iterator[Path]:
    """A path to `folder`, a whole path, in which no library reads more than a name.

    Where the path itself is not plain, a link from a temporary folder.
    """
    if not READ_INTO.search(str(folder)) and is_utf8(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="checkpoints-") as home:
        link = Path(home).resolve() / "run"
        link.symlink_to(folder, target_is_directory=True)
        yield link


def is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True

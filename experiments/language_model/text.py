"""The text of a language model: files, or Python's own standard library."""

import hashlib
import sysconfig
from pathlib import Path

from jaxrnn.data import splits
from jaxrnn.data.splits import SPLITS


def read_splits(
    data: Path | None, shares: tuple[float, float, float], tokens: str = "character"
) -> dict[str, bytes]:
    """The text of each split, as `jaxrnn.data.splits` reads it from a file or folder; None
    is Python's standard library. Raises ValueError if there is no such text."""
    if data is None:
        return _standard_library()
    return splits.read_splits(data, shares, tokens)


def _standard_library() -> dict[str, bytes]:
    """The modules of the standard library, one file in 20 for validation and one for test,
    by a hash of its name: a file stays in its split in every version."""
    root = Path(sysconfig.get_path("stdlib"))
    tests = {"test", "tests", "idle_test"}
    tables = {"encodings", "pydoc_data"}
    left_out = {"site-packages", "dist-packages"} | tests | tables
    files: dict[str, list[bytes]] = {name: [] for name in SPLITS}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if left_out.isdisjoint(name.parts):
            place = hashlib.sha256(name.as_posix().encode()).digest()[0] % 20
            split = {0: "valid", 1: "test"}.get(place, "train")
            files[split].append(path.read_bytes())
    return {name: b"\n".join(parts) for name, parts in files.items()}

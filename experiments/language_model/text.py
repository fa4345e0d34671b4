"""Text: where it comes from, and how it is split."""

import hashlib
import sysconfig
from pathlib import Path

from jaxrnn.training.data_files import locate, read_bytes

SPLITS = ("train", "valid", "test")


def read_splits(data: Path | None, shares: tuple[float, float, float]) -> dict[str, bytes]:
    """The bytes of each split; `test` is missing where there is none.

    A file is cut by `shares` in its order; a folder has one file a split, known by its
    name, or one file; None is Python's standard library. Raises ValueError if there is no
    such text.
    """
    if data is None:
        return _standard_library()
    data = locate(data)
    if data.is_dir():
        files = sorted(path for path in data.iterdir() if path.is_file())
        if len(files) != 1 or any(name in files[0].name for name in SPLITS):
            return _folder(data, files)
        data = files[0]
    try:
        text = read_bytes(data).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{data} is not UTF-8 text: {error}") from None
    return _cut(text, shares)


def _cut(text: str, shares: tuple[float, float, float]) -> dict[str, bytes]:
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or shares[0] == 0 or shares[1] == 0:
        raise ValueError(
            f"split needs three shares that add up to 1, training and validation above 0, "
            f"got {shares}"
        )
    first = int(shares[0] * len(text))
    second = int((shares[0] + shares[1]) * len(text))
    parts = text[:first], text[first:second], text[second:]
    splits = {name: part.encode() for name, part in zip(SPLITS, parts, strict=True)}
    if not splits["test"]:
        del splits["test"]
    return splits


def _folder(folder: Path, files: list[Path]) -> dict[str, bytes]:
    splits = {}
    for name in SPLITS:
        found = [path for path in files if name in path.name]
        if len(found) > 1:
            names = ", ".join(p.name for p in found)
            raise ValueError(f"{folder} has several files for {name!r}: {names}")
        if found:
            splits[name] = read_bytes(found[0])
        elif name != "test":
            raise ValueError(f"{folder} has no file with {name!r} in its name")
    return splits


def _standard_library() -> dict[str, bytes]:
    """The modules of the standard library, one file in 20 for validation and one for test,
    by a hash of its name: a file stays in its split in every version."""
    root = Path(sysconfig.get_path("stdlib"))
    tests = {"test", "tests", "idle_test"}
    tables = {"encodings", "pydoc_data"}
    left_out = {"site-packages", "dist-packages"} | tests | tables
    splits: dict[str, list[bytes]] = {name: [] for name in SPLITS}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if left_out.isdisjoint(name.parts):
            place = hashlib.sha256(name.as_posix().encode()).digest()[0] % 20
            split = {0: "valid", 1: "test"}.get(place, "train")
            splits[split].append(path.read_bytes())
    return {name: b"\n".join(files) for name, files in splits.items()}

"""Checks every checkpoint of a run: `python -m jaxrnn.training.verify RUN_DIR`."""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from jaxrnn.training.paths import whole_path
from jaxrnn.training.run import terminal
from jaxrnn.training.store.good_steps import listed
from jaxrnn.training.store.reads import Damaged, first_line
from jaxrnn.training.store.saved_array import stored_dtype
from jaxrnn.training.store.saved_step import CheckpointError, nothing, read_step

GOOD = "good"


class Checked(NamedTuple):
    """A saved step and whether it is what was saved."""

    step: int
    verdict: str  # "good", "DAMAGED: ..." or "UNKNOWN: ..."
    arrays: int | None = None
    bytes: int | None = None
    loss: float | None = None


def checked(run_dir: Path) -> Iterator[Checked]:
    """Every step, read whole; without those that a run in progress has removed since.

    Reads only: neither a damaged step nor a run in progress is touched. Raises
    CheckpointError if the checkpoints cannot even be listed.
    """
    root = whole_path(run_dir) / "checkpoints"
    for step, folder in sorted(listed(root).items()):
        with suppress(FileNotFoundError):
            yield check(step, folder)


def check(step: int, folder: Path) -> Checked:
    """Raises FileNotFoundError if a run in progress has removed the step."""
    try:
        meta = read_step(folder, nothing, thorough=True).meta
    except Damaged as error:
        return Checked(step, f"DAMAGED: {first_line(error)}")
    except CheckpointError as error:
        return Checked(step, f"UNKNOWN: {error}")
    leaves = meta["leaves"]
    size = sum(map(stored_bytes, leaves.values()))
    return Checked(step, GOOD, len(leaves), size, meta["loss"])


def stored_bytes(about: Mapping[str, Any]) -> int:
    return math.prod(about["shape"]) * stored_dtype(about["dtype"]).itemsize


def verify(run_dir: Path) -> bool:
    """Prints a line for every step and returns whether there are steps and all are good;
    reads and raises as `checked` does."""
    root = whole_path(run_dir) / "checkpoints"
    good = []
    for one in checked(run_dir):
        good.append(one.verdict == GOOD)
        told = [f"step {one.step}: {one.verdict}"]
        if one.bytes is not None:
            told += [f"{one.arrays} arrays", f"{one.bytes / 1e6:.1f} MB"]
        if one.loss is not None:
            told.append(f"loss {one.loss:.4f}")
        print(", ".join(told))
    for folder in sorted(root.glob("quarantine/*")):
        print(f"{folder.relative_to(root)}: damaged, set aside earlier")
    if not good:
        print(f"no checkpoints in {run_dir}")
    return bool(good) and all(good)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Check the digests of every checkpoint of a run. "
        "Exit code 0: all good, 1: some damaged, not to be read, or none there.",
    )
    parser.add_argument("run_dir", type=Path, help="the folder that holds checkpoints/")
    run_dir = parser.parse_args().run_dir
    if not run_dir.is_dir():
        parser.error(f"no such folder: {run_dir}")
    try:
        return 0 if verify(run_dir) else 1
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    terminal.run(main)

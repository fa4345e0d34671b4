"""Checks every checkpoint of a run: `python -m jaxrnn.training.verify RUN_DIR`."""

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxrnn.training.paths import whole_path
from jaxrnn.training.run import terminal
from jaxrnn.training.store.good_steps import listed
from jaxrnn.training.store.reads import Damaged, first_line
from jaxrnn.training.store.saved_array import stored_dtype
from jaxrnn.training.store.saved_step import CheckpointError, nothing, read_step


def verify(run_dir: Path) -> bool:
    """Prints a line for every step and returns whether there are steps and all are good.

    Reads only: neither a damaged step nor a run in progress is touched. Raises
    CheckpointError if the checkpoints cannot even be listed.
    """
    root = whole_path(run_dir) / "checkpoints"
    reports = (report(step, folder) for step, folder in sorted(listed(root).items()))
    good = [told for told in reports if told is not None]
    for folder in sorted(root.glob("quarantine/*")):
        print(f"{folder.relative_to(root)}: damaged, set aside earlier")
    if not good:
        print(f"no checkpoints in {run_dir}")
    return bool(good) and all(good)


def report(step: int, folder: Path) -> bool | None:
    """Whether the step is good; None if a run in progress has removed it."""
    try:
        meta = read_step(folder, nothing, thorough=True).meta
    except FileNotFoundError:
        return None
    except Damaged as error:
        print(f"step {step}: DAMAGED: {first_line(error)}")
        return False
    except CheckpointError as error:
        print(f"step {step}: UNKNOWN: {error}")
        return False
    leaves = meta["leaves"]
    size = sum(map(stored_bytes, leaves.values())) / 1e6
    loss = "" if meta["loss"] is None else f", loss {meta['loss']:.4f}"
    print(f"step {step}: good, {len(leaves)} arrays, {size:.1f} MB{loss}")
    return True


def stored_bytes(about: Mapping[str, Any]) -> int:
    return math.prod(about["shape"]) * stored_dtype(about["dtype"]).itemsize


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jaxrnn.training.verify",
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

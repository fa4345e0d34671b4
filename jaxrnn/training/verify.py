"""Checks every checkpoint of a run: `python -m jaxrnn.training.verify RUN_DIR`."""

import argparse
import sys
from pathlib import Path

from jaxrnn.training.paths import whole_path
from jaxrnn.training.run import terminal
from jaxrnn.training.store.good_steps import listed
from jaxrnn.training.store.reads import Damaged
from jaxrnn.training.store.saved_step import CheckpointError, first_line, read_step


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
        saved = read_step(folder)
    except FileNotFoundError:
        return None
    except Damaged as error:
        print(f"step {step}: DAMAGED: {first_line(error)}")
        return False
    except CheckpointError as error:
        print(f"step {step}: UNKNOWN: {error}")
        return False
    size = sum(leaf.data.nbytes for leaf in saved.leaves.values()) / 1e6
    loss = "" if saved.meta["loss"] is None else f", loss {saved.meta['loss']:.4f}"
    print(f"step {step}: good, {len(saved.leaves)} arrays, {size:.1f} MB{loss}")
    return True


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

"""Checks every checkpoint of a run: `python -m jaxrnn.training.verify RUN_DIR`."""

import argparse
from pathlib import Path

from jaxrnn.training import terminal
from jaxrnn.training.saved_step import first_line, read_step
from jaxrnn.training.step_folders import step_folders


def verify(run_dir: Path) -> bool:
    """Prints a line for every step and returns whether there are steps and all are good.

    Reads only: neither a damaged step nor a run in progress is touched.
    """
    root = run_dir.absolute() / "checkpoints"
    folders = sorted(step_folders(root).items())
    good = [report(step, folder) for step, folder in folders]
    for folder in sorted(root.glob("quarantine/*")):
        print(f"{folder.relative_to(root)}: damaged, set aside earlier")
    if not good:
        print(f"no checkpoints in {run_dir}")
    return bool(good) and all(good)


def report(step: int, folder: Path) -> bool:
    try:
        saved = read_step(folder)
    except Exception as error:
        print(f"step {step}: DAMAGED: {first_line(error)}")
        return False
    size = sum(leaf.data.nbytes for leaf in saved.leaves.values()) / 1e6
    loss = "" if saved.meta["loss"] is None else f", loss {saved.meta['loss']:.4f}"
    print(f"step {step}: good, {len(saved.leaves)} arrays, {size:.1f} MB{loss}")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jaxrnn.training.verify",
        description="Check the digests of every checkpoint of a run. "
        "Exit code 0: all good, 1: some damaged or none there.",
    )
    parser.add_argument("run_dir", type=Path, help="the folder that holds checkpoints/")
    run_dir = parser.parse_args().run_dir
    if not run_dir.is_dir():
        parser.error(f"no such folder: {run_dir}")
    return 0 if verify(run_dir) else 1


if __name__ == "__main__":
    terminal.run(main)

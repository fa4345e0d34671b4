"""The folders of a run's checkpoints: which steps there are, and which stay.

checkpoints/STEP                one saved step
checkpoints/quarantine/STEP     damaged, kept as it was found
checkpoints/replaced/NEW/STEP   at or after NEW, kept until NEW is saved anew
checkpoints/trash/STEP          no longer kept, about to be deleted
"""

import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from orbax.checkpoint import checkpoint_managers

from jaxrnn.training.saved_step import read_meta


def step_folders(root: Path) -> dict[int, Path]:
    """The folder of every step, those set aside for a save that was cut off included."""
    folders = numbered(root)
    for new, aside in numbered(root / "replaced").items():
        if new not in folders:
            folders |= numbered(aside)
    return folders


def numbered(folder: Path) -> dict[int, Path]:
    try:
        return {int(path.name): path for path in folder.iterdir() if path.name.isdecimal()}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def set_aside(root: Path, step: int) -> None:
    """Moves the steps from `step` on out of its way, to be deleted once it is saved."""
    replaced = [folder for n, folder in step_folders(root).items() if n >= step]
    aside = root / "replaced" / str(step)
    for folder in replaced:
        aside.mkdir(parents=True, exist_ok=True)
        folder.rename(aside / folder.name)


def settle(root: Path) -> None:
    """Ends what a save began: deletes the steps it replaced, or brings them back."""
    trash = root / "trash"
    shutil.rmtree(trash, ignore_errors=True)
    for new, aside in numbered(root / "replaced").items():
        if not (root / str(new)).is_dir():
            for folder in numbered(aside).values():
                folder.rename(root / folder.name)
    # Renamed first: whoever reads there finds a step whole or not at all.
    with suppress(FileNotFoundError):
        (root / "replaced").rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def quarantine(folder: Path, root: Path) -> str:
    """Moves a damaged step out of the way, never over another; tells what came of it."""
    target = root / "quarantine" / folder.name
    copies = 1
    while os.path.lexists(target):
        copies += 1
        target = target.with_name(f"{folder.name}-{copies}")
    try:
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
    except OSError as error:
        return f"could not be moved to {target} ({error.strerror})"
    return f"was moved to {target}"


def newest(folders: dict[int, Path]) -> int | None:
    return max(folders, default=None)


def best(folders: dict[int, Path]) -> int | None:
    """The step of the lowest loss, the older one of equals."""
    losses = read_losses(folders)
    return min(losses, key=losses.__getitem__, default=None)


def read_losses(folders: dict[int, Path]) -> dict[int, float]:
    """The loss of every step saved with one, -inf where it cannot be read."""
    losses = {}
    for step, folder in sorted(folders.items()):
        try:
            loss = read_meta(folder)["loss"]
        except Exception:
            # It may be the best: restoring tries it first, and finds out why.
            loss = -math.inf
        if loss is not None:
            losses[step] = loss
    return losses


class KeepBest(checkpoint_managers.PreservationPolicy):
    """Preserves the n steps of the lowest loss, which each step's own JSON tells."""

    def __init__(self, root: Path, n: int) -> None:
        self.root = root
        self.n = n

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: Any
    ) -> Sequence[bool]:
        losses = read_losses({c.step: self.root / str(c.step) for c in checkpoints})
        known = [step for step in losses if losses[step] > -math.inf]
        kept = sorted(known, key=losses.__getitem__)[: self.n]
        return [c.step in kept for c in checkpoints]

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
from typing import Any, NamedTuple

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


def sweep(root: Path) -> None:
    """Ends what a process began that was killed."""
    settle(root)
    for unfinished in root.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(unfinished, ignore_errors=True)


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


def newest_lasting(folders: dict[int, Path]) -> int | None:
    return max(
        (n for n, about in summaries(folders).items() if about.lasting), default=None
    )


def best(folders: dict[int, Path]) -> int | None:
    """The step of the lowest loss, the older one of equals."""
    return next((step for _, step in by_loss(summaries(folders))), None)


class Summary(NamedTuple):
    """What decides whether a step is kept."""

    loss: float | None
    lasting: bool


def summaries(folders: dict[int, Path]) -> dict[int, Summary]:
    found = {}
    for step, folder in sorted(folders.items()):
        try:
            meta = read_meta(folder)
            found[step] = Summary(meta["loss"], meta.get("lasting", True))
        except Exception:
            # It may be the one: restoring tries it first, and finds out why.
            found[step] = Summary(-math.inf, True)
    return found


class Lasting(checkpoint_managers.PreservationPolicy):
    """Preserves the newest `latest` lasting steps, and the `best` of the lowest loss."""

    def __init__(self, root: Path, latest: int, best: int) -> None:
        self.root = root
        self.latest, self.best = latest, best

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: Any
    ) -> Sequence[bool]:
        found = summaries({c.step: self.root / str(c.step) for c in checkpoints})
        lasting = [step for step, about in found.items() if about.lasting]
        known = [(loss, step) for loss, step in by_loss(found) if loss > -math.inf]
        kept = lasting[-self.latest :] + [step for _, step in known[: self.best]]
        return [c.step in kept for c in checkpoints]


def by_loss(found: dict[int, Summary]) -> list[tuple[float, int]]:
    """The steps saved with a loss, from the lowest on."""
    return sorted(
        (about.loss, step) for step, about in found.items() if about.loss is not None
    )

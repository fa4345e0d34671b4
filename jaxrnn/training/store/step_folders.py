"""The folders of a run's checkpoints: which steps there are, and which stay.

checkpoints/STEP                one saved step
checkpoints/quarantine/STEP     damaged, kept as it was found
checkpoints/replaced/NEW/STEP   at or after NEW, kept until NEW is saved anew
checkpoints/unfinished/LOT/N    what process N has written of a step that is being saved
checkpoints/trash/STEP          no longer kept, about to be deleted
"""

import itertools
import math
import shutil
from pathlib import Path
from typing import NamedTuple

from jaxrnn.training.store.reads import Damaged, is_there
from jaxrnn.training.store.saved_step import read_meta


def step_folders(root: Path) -> dict[int, Path]:
    """The folder of every step, those set aside for a save that was cut off included."""
    folders = numbered(root)
    for new, aside in numbered(root / "replaced").items():
        if new not in folders:
            folders |= numbered(aside)
    return folders


def numbered(folder: Path) -> dict[int, Path]:
    try:
        names = [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    # As Python writes numbers, and nothing else that it reads as one.
    return {
        int(name): folder / name
        for name in names
        if name.isdecimal() and name == str(int(name))
    }


def set_aside(root: Path, step: int) -> None:
    """Moves the steps from `step` on out of its way, to be deleted once it is saved."""
    replaced = [folder for n, folder in step_folders(root).items() if n >= step]
    aside = root / "replaced" / str(step)
    for folder in replaced:
        aside.mkdir(parents=True, exist_ok=True)
        folder.rename(aside / folder.name)


def finish_replacing(root: Path) -> None:
    """Ends what a save began: deletes the steps it replaced, or brings them back."""
    for new, aside in numbered(root / "replaced").items():
        if not is_there(root / str(new)):
            for folder in numbered(aside).values():
                folder.rename(root / folder.name)
    throw_away(root / "replaced", root)


def sweep(root: Path) -> None:
    """Ends what a process began that was killed."""
    finish_replacing(root)
    throw_away(root / "unfinished", root)
    for unfinished in root.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def quarantine(folder: Path, root: Path) -> str:
    """Moves a damaged step out of the way, never over another; tells what came of it."""
    target = root / "quarantine" / folder.name
    try:
        target.parent.mkdir(exist_ok=True)
        target = unused(target)
        folder.rename(target)
    except OSError as error:
        return f"could not be moved to {target} ({error.strerror})"
    return f"was moved to {target}"


def throw_away(folder: Path, root: Path) -> None:
    """Deletes a folder, if there is one, and what could not be deleted before."""
    trash = root / "trash"
    if is_there(folder):
        trash.mkdir(exist_ok=True)
        # Renamed first: whoever reads there finds a step whole or not at all.
        folder.rename(unused(trash / folder.name))
    # Files that are open elsewhere may stay, until the next time.
    shutil.rmtree(trash, ignore_errors=True)


def unused(path: Path) -> Path:
    """The path, or the first of path-2, path-3 ... where nothing is."""
    numbered_on = (path.with_name(f"{path.name}-{n}") for n in itertools.count(2))
    return next(p for p in itertools.chain([path], numbered_on) if not is_there(p))


def thin(root: Path, latest: int, best: int) -> None:
    """Removes all steps but the newest, the newest `latest` lasting ones, and the `best`
    of the lowest loss. What cannot be known stays: all, if the disk cannot be read."""
    try:
        found = summaries(numbered(root))
    except OSError:
        return
    known = {step: about for step, about in found.items() if about != UNKNOWN}
    lasting = [step for step, about in known.items() if about.lasting]
    kept = {*list(found)[-1:], *lasting[-latest:], *[n for _, n in by_loss(known)[:best]]}
    for step in known.keys() - kept:
        throw_away(root / str(step), root)


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


# Of a damaged step. It may be the one: restoring tries it first, and finds out why.
UNKNOWN = Summary(-math.inf, True)


def summaries(folders: dict[int, Path]) -> dict[int, Summary]:
    """Those of all steps, ascending; raises OSError if the disk cannot be read."""
    found = {}
    for step, folder in sorted(folders.items()):
        try:
            meta = read_meta(folder)
        except Damaged:
            found[step] = UNKNOWN
        except FileNotFoundError:
            pass  # removed since it was listed
        else:
            found[step] = Summary(meta["loss"], meta.get("lasting", True))
    return found


def by_loss(found: dict[int, Summary]) -> list[tuple[float, int]]:
    """The steps saved with a loss, from the lowest on."""
    return sorted(
        (about.loss, step) for step, about in found.items() if about.loss is not None
    )

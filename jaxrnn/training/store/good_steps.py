"""The step to restore: the first good one of those that are chosen in turn."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from jaxrnn.training.store.reads import (
    NAPS,
    Damaged,
    first_line,
    is_there,
    patiently,
)
from jaxrnn.training.store.saved_step import CheckpointError, Saved, Take, read_step
from jaxrnn.training.store.step_folders import step_folders

# Which of the steps in these folders to take, if any.
Choice = Callable[[dict[int, Path]], int | None]


def first_good(
    root: Path,
    choose: Choice,
    take: Take,
    put_away: Callable[[Path], str],
) -> Saved | None:
    """What to `take` of the step that `choose` takes, None if it takes none.

    A step that is proven to be damaged is told in a warning, with what came of having it
    `put_away`, and another is chosen. Raises CheckpointError if no good one is left, and
    for one that cannot be read but need not be damaged.
    """
    damaged: set[int] = set()
    while True:
        # Listed anew each time: a process that trains may have deleted steps.
        folders = listed(root)
        with told_as_unreadable(root):
            step = choose({n: folders[n] for n in folders.keys() - damaged})
        if step is None:
            break
        try:
            return read_step(folders[step], take)
        except FileNotFoundError:
            time.sleep(NAPS[0])
        except Damaged as error:
            damaged.add(step)
            warnings.warn(
                f"checkpoint {folders[step]} is damaged and {put_away(folders[step])}: "
                f"{first_line(error)}",
                stacklevel=2,
            )
    if damaged or (not folders and is_there(root / "quarantine")):
        raise CheckpointError(
            f"no good checkpoint is left in {root}; the damaged ones are kept there"
        )
    return None


def same_step(root: Path, step: int, take: Take) -> Saved:
    """The step that the first process found and checked, as this one reads it."""
    try:
        return read_step(listed(root)[step], take, known=True)
    except (KeyError, FileNotFoundError, Damaged) as error:
        raise CheckpointError(
            f"process {jax.process_index()} does not find step {step} in {root} as the "
            f"first one does: {first_line(error)}"
        ) from None


def listed(root: Path) -> dict[int, Path]:
    with told_as_unreadable(root):
        return patiently(lambda: step_folders(root))


@contextmanager
def told_as_unreadable(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{root} cannot be read, which need not be damage: {first_line(error)}"
        ) from error

"""The checkpoint store: atomic, asynchronous, verified on every restore.

A step on disk is a folder `checkpoints/STEP` that Orbax writes in one atomic commit:
`state` holds the leaves of the training state as NumPy arrays by path, `meta` a small
JSON with a SHA-256 of every leaf and of itself; `SHA256SUMS` lists all files. Leaves that
lie over several processes are in `shares`, in parts that each process wrote, a SHA-256 a
part. Any number of devices and processes reads what any other wrote.
"""

import json
import math
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxrnn.training.leaves import Leaf, leaf_paths
from jaxrnn.training.paths import whole_path
from jaxrnn.training.processes import first_only, is_first, together, told_by_first
from jaxrnn.training.store.background import Background, give_way
from jaxrnn.training.store.good_steps import Choice, first_good, listed, same_step
from jaxrnn.training.store.host_copies import CutLeaf, copies_of
from jaxrnn.training.store.lock import RunLocked, held_for_a_change
from jaxrnn.training.store.reads import first_line
from jaxrnn.training.store.saved_step import (
    FORMAT,
    IN_PARTS,
    CheckpointError,
    Saved,
    place,
    taken,
)
from jaxrnn.training.store.shares import write_share
from jaxrnn.training.store.step_folders import (
    best,
    newest,
    newest_lasting,
    quarantine,
    sweep,
)
from jaxrnn.training.store.step_writer import StepWriter

# What an older version saved, as this one would have: the leaves of a state by path.
Upgrade = Callable[[dict[str, Leaf]], dict[str, Leaf]]


def as_saved(leaves: dict[str, Leaf]) -> dict[str, Leaf]:
    return leaves


class Restored(NamedTuple):
    step: int
    state: Any
    record: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run: the newest `keep_latest` and the best `keep_best`.

    `save` returns as soon as the state is copied to the host; a background thread
    digests and writes it, and what goes wrong there is raised by the next call. Leaving
    the `with` block waits for that thread.

    One process may write to a run at a time: see `RunLock`. Only a store in its `with`
    block writes, and it moves a damaged step to `quarantine` only while no other process
    holds the run's lock. Outside of one, as `sample` does beside a run that trains, a store
    leaves everything as it is.

    With several processes all of them call every method in the same order; the first
    one decides, and writes what it has whole; of an array that lies over several each
    copies, writes and reads back its own parts. Where one fails all of them raise.
    """

    def __init__(
        self, run_dir: str | os.PathLike[str], *, keep_latest: int = 2, keep_best: int = 1
    ) -> None:
        if keep_latest < 1 or keep_best < 0:
            raise ValueError(
                "keep_latest must be 1 or more and keep_best 0 or more, "
                f"got {keep_latest} and {keep_best}"
            )
        self.root = whole_path(run_dir) / "checkpoints"
        self._writer: ThreadPoolExecutor | None = None
        self._steps = StepWriter(self.root, keep_latest, keep_best)
        self._share = Background()  # written by this process
        self._saving = Background()  # the step, by the first one
        self._given_up = threading.Event()

    def __enter__(self) -> "CheckpointStore":
        self._writer = ThreadPoolExecutor(
            1, thread_name_prefix="checkpoint", initializer=give_way
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def save(
        self,
        step: int,
        state: Any,
        *,
        loss: float | None = None,
        record: dict[str, Any] | None = None,
        lasting: bool = True,
    ) -> None:
        """Saves `state` as `step`, with the JSON dictionary `record` in the same commit.

        The lowest `loss` is the best; a step without one, or with one that is not finite,
        is never the best. One that is not `lasting` is kept only while it is the newest:
        the save of a run that was interrupted. The state's memory may be donated once
        this returns. A step at or below the newest begins a new history: the steps from
        it on go once it is saved. Raises ValueError for a leaf that is not an array or
        outside of a `with` block, and CheckpointError for a save that failed before.
        """
        if self._writer is None:
            # Python's exit would cut off the last save, with exit code 0.
            raise ValueError("save needs `with CheckpointStore(...) as store:` around it")
        self.wait()
        whole, cut = copies_of(state)
        meta = {
            "format": IN_PARTS if cut else FORMAT,
            "step": int(step),
            "loss": loss if loss is not None and math.isfinite(loss) else None,
            "lasting": lasting,
            "record": record or {},
        }
        meta = json.loads(json.dumps(meta))  # a copy, as it will be read
        shares = self._begin_share(step, cut) if cut else None
        if is_first():
            self._saving.begin(
                self._writer, self._steps.write, whole, meta, shares, self._given_up
            )

    def restore(
        self,
        like: Any,
        *,
        upgrade: Upgrade = as_saved,
        part: bool = False,
    ) -> Restored | None:
        """The newest good step, or None if nothing was ever saved.

        The state has the structure, dtypes, shapes and shardings of `like`, a tree of
        arrays or ShapeDtypeStructs; `upgrade` makes of what an older version saved what
        this one would have. If `like` is a `part` of that, such as {"params": ...}, the
        other leaves may be whatever they are, and are left unread without an `upgrade`.

        A step that is proven to be damaged is passed over with a warning, and moved to
        `quarantine` as the class says. Raises CheckpointError if no step is good, if one
        cannot be read for another reason, and if the step is good but of another
        structure, dtype or shape than `like`.
        """
        return self._restore(newest, like, upgrade, part)

    def restore_best(
        self,
        like: Any,
        *,
        upgrade: Upgrade = as_saved,
        part: bool = False,
    ) -> Restored | None:
        """The good step of the lowest loss, or None if none was saved with a loss."""
        return self._restore(best, like, upgrade, part)

    def restore_lasting(
        self,
        like: Any,
        *,
        upgrade: Upgrade = as_saved,
        part: bool = False,
    ) -> Restored | None:
        """The newest good step that was saved as `lasting`; else as `restore`."""
        return self._restore(newest_lasting, like, upgrade, part)

    def steps(self) -> list[int]:
        """The steps on disk, ascending; that they are good shows when they are read."""
        self.wait()
        return told_by_first(lambda: sorted(listed(self.root)))

    def sweep(self) -> None:
        """Removes what a killed process left half done; for the one that holds the lock."""
        first_only(lambda: sweep(self.root))

    def wait(self) -> None:
        """Returns when the last save is on disk, or raises CheckpointError if it failed."""
        try:
            together(self._share.finish)
        except Exception:
            self._given_up.set()
            with suppress(CheckpointError):
                self._saving.finish()
            raise
        first_only(self._saving.finish)

    def close(self) -> None:
        """Waits for the save in flight and ends the background thread."""
        try:
            self._share.finish()
            self._saving.finish()
        finally:
            if self._writer is not None:
                self._writer.shutdown()
                self._writer = None
            self._steps.close()

    def _begin_share(self, step: int, parts: dict[str, CutLeaf]) -> Path:
        """Has this process' parts written; returns the folder of all processes' shares."""
        assert self._writer is not None
        # By lot, so that what a save left that was cut off is not taken for this one's.
        lot = told_by_first(lambda: [secrets.randbelow(2**31)])
        shares = self.root / "unfinished" / f"{step}-{lot[0]}"
        self._given_up.clear()

        def write() -> None:
            try:
                write_share(shares / str(jax.process_index()), parts)
            except Exception as error:
                raise CheckpointError(
                    f"step {step} could not be saved in {self.root}: {first_line(error)}"
                ) from error

        self._share.begin(self._writer, write)
        return shares

    def _restore(
        self, choose: Choice, like: Any, upgrade: Upgrade, part: bool
    ) -> Restored | None:
        self.wait()
        asked = set(leaf_paths(like))
        found: list[Saved] = []

        def take(saved: Saved) -> dict[str, Leaf]:
            leaves = upgrade(saved.leaves)
            if part:
                leaves = {path: leaf for path, leaf in leaves.items() if path in asked}
            try:
                return taken(leaves, like)
            except CheckpointError as error:
                step = saved.meta["step"]
                raise CheckpointError(
                    f"step {step} in {self.root} does not fit: {error}"
                ) from None

        def find() -> list[int]:
            if (good := first_good(self.root, choose, take, self._put_away)) is not None:
                found.append(good)
            return [saved.meta["step"] for saved in found]

        steps = told_by_first(find)
        if not steps:
            return None
        (step,) = steps
        saved = together(lambda: found[0] if found else same_step(self.root, step, take))
        return Restored(step, place(saved.leaves, like), saved.meta["record"])

    def _put_away(self, folder: Path) -> str:
        """Moves a damaged step to quarantine, where that is for this store to do; tells
        what came of it."""
        if self._writer is None:
            return "is left where it is"
        try:
            with held_for_a_change(self.root.parent):
                return quarantine(folder, self.root)
        except (RunLocked, OSError) as error:
            return f"is left where it is ({error})"

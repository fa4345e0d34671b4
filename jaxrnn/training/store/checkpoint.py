"""The checkpoint store: atomic, asynchronous, verified on every restore.

A step on disk is a folder `checkpoints/STEP` that Orbax writes in one atomic commit:
`state` holds the leaves of the training state as NumPy arrays by path, `meta` a small
JSON with a SHA-256 of every leaf and of itself; `SHA256SUMS` lists all files. Nothing in
it depends on the number of devices or processes.
"""

import json
import math
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.training.leaves import Leaf, host_leaves, leaf_paths
from jaxrnn.training.paths import whole_path
from jaxrnn.training.processes import first_only, is_first, together, told_by_first
from jaxrnn.training.store.file_list import list_files
from jaxrnn.training.store.good_steps import Choice, first_good, listed, same_step
from jaxrnn.training.store.lock import RunLocked, held_for_a_change
from jaxrnn.training.store.orbax_writer import OrbaxWriter
from jaxrnn.training.store.saved_step import (
    FORMAT,
    CheckpointError,
    Saved,
    check_written,
    describe,
    digest_json,
    first_line,
    place,
)
from jaxrnn.training.store.step_folders import (
    best,
    finish_replacing,
    newest,
    newest_lasting,
    quarantine,
    set_aside,
    sweep,
    thin,
    throw_away,
)

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
    one reads what there is, decides and writes, and where it fails all of them raise.
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
        self.keep_latest, self.keep_best = keep_latest, keep_best
        self._writer: ThreadPoolExecutor | None = None
        self._saving: Future[None] | None = None
        self._orbax: OrbaxWriter | None = None
        self._proven = False  # that what it writes can be read

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
        leaves = {
            path: Leaf(leaf.dtype, np.array(leaf.data))
            for path, leaf in host_leaves(state).items()
        }
        meta = {
            "format": FORMAT,
            "step": int(step),
            "loss": loss if loss is not None and math.isfinite(loss) else None,
            "lasting": lasting,
            "record": record or {},
        }
        meta = json.loads(json.dumps(meta))  # a copy, as it will be read
        if is_first():
            self._saving = self._writer.submit(self._write, leaves, meta)

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
        first_only(self._finish)

    def close(self) -> None:
        """Waits for the save in flight and ends the background thread."""
        try:
            self._finish()
        finally:
            if self._writer is not None:
                self._writer.shutdown()
                self._writer = None
            self._close_orbax()

    def _finish(self) -> None:
        if self._saving is None:
            return
        try:
            self._saving.result()
        finally:
            # Not when interrupted in the wait: its outcome is still to be told.
            if self._saving.done():
                self._saving = None

    def _write(self, leaves: dict[str, Leaf], meta: dict[str, Any]) -> None:
        step = meta["step"]
        meta["leaves"] = {path: describe(leaf) for path, leaf in leaves.items()}
        meta["sha256"] = digest_json(meta)
        try:
            if self._orbax is None:
                self._orbax = OrbaxWriter(self.root)
            finish_replacing(self.root)
            set_aside(self.root, step)
            self._orbax.save(step, {path: leaf.data for path, leaf in leaves.items()}, meta)
            list_files(self.root / str(step))
            self._read_back(meta)
            finish_replacing(self.root)
            thin(self.root, self.keep_latest, self.keep_best)
        except Exception as error:
            # The next save opens another, which clears what this one left.
            with suppress(Exception):
                self._close_orbax()
            raise CheckpointError(
                f"step {step} could not be saved in {self.root}: {first_line(error)}"
            ) from error

    def _read_back(self, meta: dict[str, Any]) -> None:
        """Keeps the step just written only if it can be read, the first one as a whole."""
        folder = self.root / str(meta["step"])
        try:
            check_written(folder, meta, whole=not self._proven)
        except Exception as error:
            throw_away(folder, self.root)
            finish_replacing(self.root)
            raise CheckpointError(f"it cannot be read back: {first_line(error)}") from error
        self._proven = True

    def _close_orbax(self) -> None:
        orbax, self._orbax = self._orbax, None
        if orbax is not None:
            orbax.close()

    def _restore(
        self, choose: Choice, like: Any, upgrade: Upgrade, part: bool
    ) -> Restored | None:
        self.wait()
        asked = set(leaf_paths(like))
        wanted = asked if part and upgrade is as_saved else None
        found: list[Saved] = []

        def find() -> list[int]:
            if (good := first_good(self.root, choose, wanted, self._put_away)) is not None:
                found.append(good)
            return [saved.meta["step"] for saved in found]

        steps = told_by_first(find)
        if not steps:
            return None
        (step,) = steps
        saved = together(lambda: found[0] if found else same_step(self.root, step, wanted))
        leaves = upgrade(saved.leaves)
        if part:
            leaves = {path: leaf for path, leaf in leaves.items() if path in asked}
        try:
            state = place(leaves, like)
        except CheckpointError as error:
            raise CheckpointError(
                f"step {step} in {self.root} does not fit: {error}"
            ) from None
        return Restored(step, state, saved.meta["record"])

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


def give_way() -> None:
    """Lets this thread, and those it starts, run where training leaves a core idle."""
    if sys.platform == "linux":  # elsewhere it would be the whole process
        with suppress(OSError):  # where that is not allowed, it competes
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)

"""The checkpoint store: atomic, asynchronous, verified on every restore.

A step on disk is a folder `checkpoints/STEP` that Orbax writes in one atomic commit:
`state` holds the leaves of the training state as NumPy arrays by path, `meta` a small
JSON with a SHA-256 of every leaf and of itself; `SHA256SUMS` lists all files. Nothing in
it depends on the number of devices or processes.
"""

import json
import logging
import math
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from jaxrnn.training.leaves import Leaf, host_leaves
from jaxrnn.training.processes import first_only, is_first
from jaxrnn.training.saved_step import (
    FORMAT,
    CheckpointError,
    Saved,
    describe,
    digest_json,
    first_line,
    list_files,
    place,
    read_step,
)
from jaxrnn.training.step_folders import (
    Lasting,
    best,
    newest,
    newest_lasting,
    quarantine,
    set_aside,
    settle,
    step_folders,
    sweep,
)

NOTHING: Mapping[str, np.ndarray] = {}


class Restored(NamedTuple):
    step: int
    state: Any
    record: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run: the newest `keep_latest` and the best `keep_best`.

    `save` returns as soon as the state is copied to the host; a background thread
    digests and writes it, and what goes wrong there is raised by the next call. Leaving
    the `with` block waits for that thread. A store that only restores changes nothing on
    disk but to set damaged steps aside, so it may read while another process trains.

    With several processes all of them call every method in the same order; the first
    one writes. One process may write to a run at a time: see `RunLock`.
    """

    def __init__(self, run_dir: Path, *, keep_latest: int = 2, keep_best: int = 1) -> None:
        if keep_latest < 1 or keep_best < 0:
            raise ValueError(
                "keep_latest must be 1 or more and keep_best 0 or more, "
                f"got {keep_latest} and {keep_best}"
            )
        self.root = Path(run_dir).absolute() / "checkpoints"
        self._policy = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(1), Lasting(self.root, keep_latest, keep_best)]
        )
        self._writer: ThreadPoolExecutor | None = None
        self._saving: Future[None] | None = None
        self._manager: ocp.CheckpointManager | None = None

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
        self, like: Any, *, defaults: Mapping[str, np.ndarray] = NOTHING
    ) -> Restored | None:
        """The newest good step, or None if nothing was ever saved.

        The state has the structure, dtypes, shapes and shardings of `like`, a tree of
        arrays or ShapeDtypeStructs; leaves that it lacks are taken from `defaults`, by
        path. A damaged step is moved to `quarantine` with a warning and the next older one
        taken. Raises CheckpointError if no step is good, or if the step is good but of
        another structure, dtype or shape than `like`.
        """
        return self._restore(like, newest, defaults)

    def restore_best(self, like: Any) -> Restored | None:
        """The good step of the lowest loss, or None if none was saved with a loss."""
        return self._restore(like, best)

    def restore_lasting(self, like: Any) -> Restored | None:
        """The newest good step that was not saved by the way, as `restore` does."""
        return self._restore(like, newest_lasting)

    def steps(self) -> list[int]:
        """The steps on disk, ascending; that they are good shows when they are read."""
        self.wait()
        return sorted(step_folders(self.root))

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
            if self._manager is not None:
                self._manager.close()
                self._manager = None

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
            if self._manager is None:
                self._manager = self._open()
            settle(self.root)
            set_aside(self.root, step)
            self._manager.reload()
            with errors_raised_only():
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        # Orbax refuses empty arrays; their shape in the JSON says all.
                        state=ocp.args.StandardSave(
                            {p: leaf.data for p, leaf in leaves.items() if leaf.data.size}
                        ),
                        meta=ocp.args.JsonSave(meta),
                    ),
                    force=True,
                )
            list_files(self.root / str(step))
            settle(self.root)
        except Exception as error:
            # The next save opens another manager, which clears what this one left.
            self._manager = None
            raise CheckpointError(
                f"step {step} could not be saved in {self.root}: {first_line(error)}"
            ) from error

    def _open(self) -> ocp.CheckpointManager:
        self.root.mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(
            self.root,
            options=ocp.CheckpointManagerOptions(
                create=False,
                enable_async_checkpointing=False,
                cleanup_tmp_directories=True,
                todelete_subdir="trash",
                preservation_policy=self._policy,
                multiprocessing_options=without_barriers(),
            ),
        )

    def _restore(
        self,
        like: Any,
        choose: Callable[[dict[int, Path]], int | None],
        defaults: Mapping[str, np.ndarray] = NOTHING,
    ) -> Restored | None:
        self.wait()
        saved = self._first_good(choose) if is_first() else None
        if jax.process_count() > 1:
            mine = np.int32(-1 if saved is None else saved.meta["step"])
            step = int(multihost_utils.broadcast_one_to_all(mine))
            if step >= 0 and saved is None:
                saved = read_step(step_folders(self.root)[step])
        if saved is None:
            return None
        step = saved.meta["step"]
        try:
            later = {path: Leaf(str(x.dtype), x) for path, x in defaults.items()}
            state = place(later | saved.leaves, like)
        except CheckpointError as error:
            raise CheckpointError(
                f"step {step} in {self.root} does not fit: {error}"
            ) from None
        return Restored(step, state, saved.meta["record"])

    def _first_good(self, choose: Callable[[dict[int, Path]], int | None]) -> Saved | None:
        damaged = set()
        while True:
            # Listed anew each time: a process that trains may have deleted steps.
            folders = step_folders(self.root)
            step = choose({n: folders[n] for n in folders if n not in damaged})
            if step is None:
                break
            try:
                return read_step(folders[step])
            except (CheckpointError, MemoryError):
                raise
            except Exception as error:
                if os.path.lexists(folders[step]):
                    damaged.add(step)
                    outcome = quarantine(folders[step], self.root)
                    warnings.warn(
                        f"checkpoint {folders[step]} is damaged and {outcome}: "
                        f"{first_line(error)}",
                        stacklevel=4,
                    )
        if damaged or (not folders and (self.root / "quarantine").is_dir()):
            raise CheckpointError(
                f"no good checkpoint is left in {self.root}; the damaged ones are kept in "
                "quarantine"
            )
        return None


def give_way() -> None:
    """Lets this thread, and those it starts, run where training leaves a core idle."""
    if sys.platform == "linux":  # elsewhere it would be the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


@contextmanager
def errors_raised_only() -> Iterator[None]:
    """Keeps Orbax's threads from logging the errors that reach us as exceptions."""
    logger = logging.getLogger("absl")
    former = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(former)


def without_barriers() -> ocp.options.MultiprocessingOptions:
    """Orbax writing in this process alone, the others not waited for."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="checkpoint"
    )

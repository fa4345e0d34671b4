"""The first process' part in a save: a step written, read back, older ones removed."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from jaxrnn.training.leaves import Leaf
from jaxrnn.training.store.file_list import list_files
from jaxrnn.training.store.orbax_writer import OrbaxWriter
from jaxrnn.training.store.reads import first_line, is_there
from jaxrnn.training.store.saved_step import (
    CheckpointError,
    check_written,
    describe,
    digest_json,
)
from jaxrnn.training.store.shares import PARTS, described
from jaxrnn.training.store.step_folders import (
    finish_replacing,
    set_aside,
    thin,
    throw_away,
)

LOOK_EVERY = 0.05  # seconds between looks for the shares of the other processes


class StepWriter:
    """Writes steps into the folder `root`, from one thread, and keeps the newest
    `keep_latest` and the best `keep_best`."""

    def __init__(self, root: Path, keep_latest: int, keep_best: int) -> None:
        self._root, self._keep = root, (keep_latest, keep_best)
        self._orbax: OrbaxWriter | None = None
        self._proven = False  # that what it writes can be read

    def write(
        self,
        leaves: dict[str, Leaf],
        meta: dict[str, Any],
        shares: Path | None,
        given_up: threading.Event,
    ) -> None:
        """One step: `leaves` and, once they are there, the `shares` of all processes.

        Raises CheckpointError if it cannot be saved, or is `given_up` meanwhile.
        """
        step = meta["step"]
        try:
            meta["leaves"] = {path: describe(leaf) for path, leaf in leaves.items()}
            if shares is not None:
                wait_for_all(shares, given_up)
                meta["leaves"] |= described(shares)
            meta["sha256"] = digest_json(meta)
            if self._orbax is None:
                self._orbax = OrbaxWriter(self._root)
            finish_replacing(self._root)
            set_aside(self._root, step)
            arrays = {path: leaf.data for path, leaf in leaves.items()}
            self._orbax.save(step, arrays, meta, shares)
            list_files(self._root / str(step))
            self._read_back(meta)
            finish_replacing(self._root)
            throw_away(self._root / "unfinished", self._root)
            thin(self._root, *self._keep)
        except Exception as error:
            # The next save opens another, which clears what this one left.
            with suppress(Exception):
                self.close()
            with suppress(OSError):
                throw_away(self._root / "unfinished", self._root)
            raise CheckpointError(
                f"step {step} could not be saved in {self._root}: {first_line(error)}"
            ) from error

    def close(self) -> None:
        orbax, self._orbax = self._orbax, None
        if orbax is not None:
            orbax.close()

    def _read_back(self, meta: dict[str, Any]) -> None:
        """Keeps the step just written only if it can be read, the first one as a whole."""
        folder = self._root / str(meta["step"])
        try:
            check_written(folder, meta, whole=not self._proven)
        except Exception as error:
            throw_away(folder, self._root)
            finish_replacing(self._root)
            raise CheckpointError(f"it cannot be read back: {first_line(error)}") from error
        self._proven = True


def wait_for_all(shares: Path, given_up: threading.Event) -> None:
    """Returns when every process has written its share; the folder is one that all see."""
    for process in range(jax.process_count()):
        while not is_there(shares / str(process) / PARTS):
            if given_up.wait(LOOK_EVERY):
                raise CheckpointError(f"process {process} has not written its share")

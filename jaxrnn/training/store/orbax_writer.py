"""Orbax, as the checkpoint store writes with it: one step in one atomic commit."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxrnn.training.paths import plainly_named


class OrbaxWriter:
    """Writes steps into the folder `root`, from one thread of one process."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._root = stack.enter_context(plainly_named(root))
            self._manager = ocp.CheckpointManager(
                self._root,
                options=ocp.CheckpointManagerOptions(
                    create=False,
                    enable_async_checkpointing=False,
                    cleanup_tmp_directories=True,
                    multiprocessing_options=without_barriers(),
                ),
            )
            stack.callback(self._manager.close)
            self.close = stack.pop_all().close

    def save(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        meta: dict[str, Any],
        shares: Path | None = None,
    ) -> None:
        """Commits arrays and JSON, and with them what lies in the folder `shares`."""
        items: dict[str, Any] = {"meta": ocp.args.JsonSave(meta)}
        # Orbax refuses empty arrays, and to save none; their shape in the JSON says all.
        if filled := {path: array for path, array in arrays.items() if array.size}:
            items["state"] = ocp.args.StandardSave(filled)
        if shares is not None:
            items["shares"] = MoveSave(shares)
        self._manager.reload()
        with errors_raised_only(self._root):
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)


class Move(ocp.CheckpointHandler):
    """Moves what lies in a folder into an item of a step."""

    def save(self, directory: Any, args: "MoveSave") -> None:
        for written in args.folder.iterdir():
            written.rename(Path(directory) / written.name)

    def restore(self, directory: Any, args: Any = None) -> None:
        raise NotImplementedError("the store reads shares by itself")


@ocp.args.register_with_handler(Move, for_save=True, for_restore=True)
@dataclass
class MoveSave(ocp.args.CheckpointArgs):
    folder: Path


@contextmanager
def errors_raised_only(root: Path) -> Iterator[None]:
    """Keeps Orbax's threads from logging those errors about `root` that reach us as
    exceptions. What anybody else logs meanwhile is left as it is."""

    def concerns_others(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR or f"{root}/" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(concerns_others)
    try:
        yield
    finally:
        logger.removeFilter(concerns_others)


def without_barriers() -> ocp.options.MultiprocessingOptions:
    """Orbax writing in this process alone, the others not waited for."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="checkpoint"
    )

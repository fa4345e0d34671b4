"""The checkpoint store: atomic, asynchronous, verified on every restore.

A step on disk is a folder `checkpoints/STEP`, written by Orbax in one atomic commit:
`state`, the leaves of the training state as a flat dictionary of NumPy arrays, and
`meta`, a small JSON with a SHA-256 of every leaf and of itself. Nothing in it depends
on how many devices wrote it.
"""

import hashlib
import json
import math
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxrnn.training.digest import (
    Leaf,
    digest_leaf,
    host_leaves,
    is_key,
    key_impl,
    path_name,
    plain_data,
)

FORMAT = 1


class CheckpointError(ValueError):
    """No checkpoint can be saved or restored, for the reason in the message."""


class Restored(NamedTuple):
    step: int
    state: Any
    record: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run, the newest and the best of them kept.

    `save` returns as soon as the state is copied to the host; the write goes on in the
    background, and an error in it is raised by the next call. Leaving the `with` block
    waits for the write in flight.
    """

    def __init__(self, run_dir: Path, *, keep_latest: int = 2, keep_best: int = 1):
        if keep_latest < 1 or keep_best < 0:
            raise ValueError(
                "keep_latest must be at least 1 and keep_best at least 0, "
                f"got {keep_latest} and {keep_best}"
            )
        self.root = Path(run_dir).absolute() / "checkpoints"
        self._keep_latest = keep_latest
        self._keep_best = keep_best
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None
        self._manager: ocp.CheckpointManager | None = None

    def __enter__(self) -> "CheckpointStore":
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
    ) -> None:
        self.wait()
        # The caller may donate the state to its next step as soon as this returns.
        leaves = {
            path: Leaf(leaf.dtype, np.array(leaf.data))
            for path, leaf in host_leaves(state).items()
        }
        if loss is not None and not math.isfinite(loss):
            loss = None
        meta = {"format": FORMAT, "step": step, "loss": loss, "record": record or {}}
        meta = json.loads(json.dumps(meta))
        if jax.process_index() == 0:
            self._saving = self._writer.submit(self._write, step, leaves, meta)

    def restore(self, like: Any) -> Restored | None:
        """The newest good step."""
        for step in reversed(self.steps()):
            folder = self.root / str(step)
            try:
                leaves, meta = read_step(folder)
            except CheckpointError:
                raise
            except Exception as error:
                warnings.warn(f"{folder} is damaged: {error}", stacklevel=2)
                continue
            return Restored(step, place(leaves, like), meta["record"])
        return None

    def restore_best(self, like: Any) -> Restored | None:
        losses = {}
        for step in self.steps():
            _, meta = read_step(self.root / str(step))
            if meta["loss"] is not None:
                losses[step] = meta["loss"]
        if not losses:
            return None
        best = min(losses, key=lambda step: (losses[step], -step))
        leaves, meta = read_step(self.root / str(best))
        return Restored(best, place(leaves, like), meta["record"])

    def steps(self) -> list[int]:
        self.wait()
        if not self.root.is_dir():
            return []
        return sorted(
            int(entry.name) for entry in self.root.iterdir() if entry.name.isdecimal()
        )

    def wait(self) -> None:
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._writer.shutdown()
            if self._manager is not None:
                self._manager.close()

    def _write(self, step: int, leaves: dict[str, Leaf], meta: dict[str, Any]) -> None:
        if self._manager is None:
            self._manager = self._open()
        meta["leaves"] = {path: describe(leaf) for path, leaf in leaves.items()}
        meta["sha256"] = digest_json(meta)
        arrays = {path: leaf.data for path, leaf in leaves.items() if leaf.data.size}
        self._manager.reload()
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(meta)
            ),
            metrics=None if meta["loss"] is None else {"loss": meta["loss"]},
            force=True,
        )

    def _open(self) -> ocp.CheckpointManager:
        best = checkpoint_managers.BestN(
            get_metric_fn=lambda metrics: metrics["loss"],
            reverse=True,
            n=self._keep_best,
            keep_checkpoints_without_metrics=False,
        )
        latest = checkpoint_managers.LatestN(self._keep_latest)
        return ocp.CheckpointManager(
            self.root,
            options=ocp.CheckpointManagerOptions(
                best_fn=lambda metrics: metrics["loss"],
                best_mode="min",
                enable_async_checkpointing=False,
                cleanup_tmp_directories=True,
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                    [latest, best]
                ),
            ),
        )


def describe(leaf: Leaf) -> dict[str, Any]:
    return {
        "dtype": leaf.dtype,
        "shape": list(leaf.data.shape),
        "sha256": digest_leaf(leaf),
    }


def digest_json(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def read_step(folder: Path) -> tuple[dict[str, Leaf], dict[str, Any]]:
    """The leaves and the JSON of one step, every digest checked."""
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        saved = reader.restore(
            folder,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore()
            ),
        )
    meta = dict(saved["meta"])
    if meta.pop("sha256", None) != digest_json(meta):
        raise ValueError("the digest of its JSON differs")
    leaves = {}
    for path, about in meta["leaves"].items():
        data = saved["state"].get(path)
        if data is None:
            data = np.zeros(about["shape"], about["dtype"])
        leaves[path] = Leaf(about["dtype"], data)
        if describe(leaves[path]) != about:
            raise ValueError(f"the digest of {path} differs")
    return leaves, meta


def place(leaves: dict[str, Leaf], like: Any) -> Any:
    """The saved leaves in the tree, dtypes, shapes and shardings of `like`."""

    def place_leaf(path: tuple[Any, ...], wanted: Any) -> Any:
        name = path_name(path)
        dtype, data = leaves[name]
        shape = jax.eval_shape(plain_data, wanted).shape
        if (dtype, data.shape) != (str(wanted.dtype), shape):
            raise CheckpointError(
                f"{name} was saved as {dtype}{list(data.shape)}, "
                f"wanted {wanted.dtype}{list(shape)}"
            )
        if isinstance(wanted, np.ndarray):
            return data
        sharding = wanted.sharding if getattr(wanted, "committed", True) else None
        if is_key(wanted):
            keys = jax.random.wrap_key_data(jnp.asarray(data), impl=key_impl(wanted))
            return jax.device_put(keys, sharding)
        return jax.device_put(data, sharding)

    return jax.tree_util.tree_map_with_path(place_leaf, like)

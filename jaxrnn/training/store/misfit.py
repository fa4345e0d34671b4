"""Whether a run's checkpoints are such that another state can go on from them."""

from pathlib import Path
from typing import Any

import jax

from jaxrnn.training.leaves import Leaf, leaf_paths
from jaxrnn.training.store.checkpoint import Upgrade
from jaxrnn.training.store.saved_array import SavedArray
from jaxrnn.training.store.saved_step import CheckpointError, check_fit, read_meta
from jaxrnn.training.store.step_folders import step_folders


def misfit(checkpoints: Path, state: Any, upgrade: Upgrade) -> str:
    """Why no run with this `state` can go on from the newest step; "" if one can.

    Nor is there a reason where there is no step, or none that can be read, which restoring
    it will tell.
    """
    folders = step_folders(checkpoints)
    if not folders:
        return ""
    try:
        saved = read_meta(folders[max(folders)])["leaves"]
    except (OSError, ValueError, KeyError):
        return ""
    leaves = {
        path: Leaf(about["dtype"], SavedArray(path, about, [], listed=True))
        for path, about in saved.items()
    }
    try:
        wanted = dict(zip(leaf_paths(state), jax.tree.leaves(state), strict=True))
        check_fit(upgrade(leaves), wanted)
    except CheckpointError as error:
        return str(error)
    return ""

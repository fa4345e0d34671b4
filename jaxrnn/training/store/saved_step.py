"""One step on disk: reading it with every digest checked, and placing it on devices."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxrnn.training.leaves import (
    Leaf,
    Regions,
    bounds_here,
    distribute,
    is_key,
    key_impl,
    leaf_paths,
    plain_data,
)
from jaxrnn.training.paths import whole_path
from jaxrnn.training.store.digest import digest_leaf
from jaxrnn.training.store.file_list import check_files
from jaxrnn.training.store.reads import Damaged, first_line, is_there, patiently
from jaxrnn.training.store.saved_array import SavedArray, arrays_of

FORMAT = 1
IN_PARTS = 2  # some leaves lie in shares, a digest a part
READS = (FORMAT, IN_PARTS)

Result = TypeVar("Result")


class CheckpointError(ValueError):
    """A checkpoint cannot be saved or restored, for the reason in the message."""


class Saved(NamedTuple):
    """One step as it is on disk."""

    leaves: dict[str, Leaf]
    meta: dict[str, Any]


# What to read of a step, whose leaves hold SavedArrays: the leaves as they are wanted.
Take = Callable[[Saved], dict[str, Leaf]]


def everything(saved: Saved) -> dict[str, Leaf]:
    return {
        path: Leaf(leaf.dtype, leaf.data.whole()) for path, leaf in saved.leaves.items()
    }


def nothing(saved: Saved) -> dict[str, Leaf]:
    return {}


def read_step(
    folder: Path,
    take: Take = everything,
    *,
    known: bool = False,
    thorough: bool = False,
) -> Saved:
    """The step in `folder`, of its leaves what `take` takes.

    Whatever that is, every file is checked, unless they are `known` to be those saved; and
    where that cannot be said, or if `thorough`, every part of every leaf, one at a time.
    Raises Damaged where the files are proven to be others than were saved,
    FileNotFoundError where there is no such folder (any more), and CheckpointError where it
    is of another format or cannot be read, time and again, for a reason that says nothing
    about what was saved.
    """
    folder = whole_path(folder.parent) / folder.name

    def attempt() -> Saved:
        listed = known or check_files(folder)
        meta = parse_meta(folder)
        check_meta(folder, meta)
        with arrays_of(folder, meta["leaves"], listed) as arrays:
            if thorough or not listed:
                for array in arrays.values():
                    array.check()
            lazy = {
                path: Leaf(about["dtype"], arrays[path])
                for path, about in meta["leaves"].items()
            }
            return Saved(take(Saved(lazy, meta)), meta)

    try:
        return patiently(lambda: look(folder, attempt))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be read, which need not be damage: {first_line(error)}"
        ) from error


def check_meta(folder: Path, meta: dict[str, Any]) -> None:
    if meta["format"] not in READS:
        readable = " and ".join(map(str, READS))
        raise CheckpointError(
            f"{folder} has format {meta['format']}; this version reads {readable}"
        )
    if folder.name != str(meta["step"]):
        raise Damaged(f"it was saved as step {meta['step']}")


def check_written(folder: Path, meta: dict[str, Any], *, whole: bool) -> None:
    """Reads back a step just written: its JSON and the shapes of its arrays, or the whole.

    Raises ValueError or OSError if it is not `meta` and what that says of the leaves.
    """
    if read_meta(folder) != {name: x for name, x in meta.items() if name != "sha256"}:
        raise Damaged("its JSON is not what was written")
    if whole:
        read_step(folder, nothing, thorough=True)
    else:
        with arrays_of(folder, meta["leaves"], listed=True):
            pass


def read_meta(folder: Path) -> dict[str, Any]:
    """The JSON of the step in `folder`, raising as `read_step` does."""
    return patiently(lambda: look(folder, lambda: parse_meta(folder)))


def look(folder: Path, read: Callable[[], Result]) -> Result:
    """What `read` gives; a file that it misses in a folder that is there is damage."""
    try:
        return read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if not is_there(folder):
            raise FileNotFoundError(f"{folder} is gone") from None
        raise Damaged(f"{error.filename} is missing or no file") from None


def parse_meta(folder: Path) -> dict[str, Any]:
    content = (folder / "meta" / "metadata").read_bytes()
    try:
        meta = json.loads(content)
        intact = meta.pop("sha256") == digest_json(meta)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"its JSON cannot be read: {first_line(error)}") from None
    if not intact:
        raise Damaged("the digest of its JSON differs")
    return meta


def taken(leaves: Mapping[str, Leaf], like: Any) -> dict[str, Leaf]:
    """Reads what this process needs to place saved leaves as `like`.

    Raises CheckpointError if they are not the leaves of `like`.
    """
    wanted = dict(zip(leaf_paths(like), jax.tree.leaves(like), strict=True))
    check_fit(leaves, wanted)
    return {
        path: Leaf(leaves[path].dtype, read_for(leaves[path].data, leaf))
        for path, leaf in wanted.items()
    }


def read_for(data: Any, wanted: Any) -> Any:
    if not isinstance(data, SavedArray):
        return data
    sharding = getattr(wanted, "sharding", None)
    if sharding is None or sharding.is_fully_addressable or is_key(wanted):
        return data.whole()
    return Regions(data.shape, data.regions(bounds_here(data.shape, sharding)))


def check_fit(leaves: Mapping[str, Leaf], wanted: Mapping[str, Any]) -> None:
    """Raises CheckpointError for leaves of other names, dtypes or shapes than `wanted`."""
    if lacking := sorted(wanted.keys() - leaves.keys()):
        raise CheckpointError(f"it lacks {', '.join(lacking[:4])}")
    if extra := sorted(leaves.keys() - wanted.keys()):
        raise CheckpointError(f"it holds {', '.join(extra[:4])}, which is not wanted")
    for name, leaf in wanted.items():
        saved, shape = leaves[name], jax.eval_shape(plain_data, leaf).shape
        if (saved.dtype, tuple(saved.data.shape)) != (str(leaf.dtype), shape):
            raise CheckpointError(
                f"{name} was saved as {saved.dtype}{list(saved.data.shape)} "
                f"and {leaf.dtype}{list(shape)} is wanted"
            )


def place(leaves: Mapping[str, Leaf], like: Any) -> Any:
    """The leaves, as `taken` for it, in the structure and with the shardings of `like`."""
    wanted, structure = jax.tree.flatten(like)
    return structure.unflatten(
        place_leaf(leaves[name].data, leaf)
        for name, leaf in zip(leaf_paths(like), wanted, strict=True)
    )


def place_leaf(data: Any, wanted: Any) -> Any:
    if isinstance(wanted, np.ndarray):
        return data
    if isinstance(wanted, np.generic):
        return data[()]
    # An uncommitted array follows the others of a computation to their devices: it must
    # come back as one.
    sharding = wanted.sharding if getattr(wanted, "committed", True) else None
    return distribute(data, sharding, key_impl(wanted) if is_key(wanted) else None)


def describe(leaf: Leaf) -> dict[str, Any]:
    return {
        "dtype": leaf.dtype,
        "shape": list(leaf.data.shape),
        "sha256": digest_leaf(leaf),
    }


def digest_json(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()

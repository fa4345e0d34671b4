"""One step on disk: reading it with every digest checked, and placing it on devices."""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore as ts

from jaxrnn.training.leaves import (
    Leaf,
    distribute,
    is_key,
    key_impl,
    leaf_paths,
    plain_data,
)
from jaxrnn.training.paths import plainly_named, whole_path
from jaxrnn.training.store.digest import digest_leaf
from jaxrnn.training.store.file_list import check_files
from jaxrnn.training.store.reads import Damaged, Unreadable, is_there, patiently

FORMAT = 1

# How TensorStore tells an error that says nothing about the bytes.
OF_THE_SYSTEM = re.compile(
    "os_error_code|^(RESOURCE_EXHAUSTED|PERMISSION_DENIED|UNAVAILABLE|DEADLINE_EXCEEDED|"
    "ABORTED|CANCELLED|INTERNAL|UNKNOWN):"
)

Result = TypeVar("Result")


class CheckpointError(ValueError):
    """A checkpoint cannot be saved or restored, for the reason in the message."""


class Saved(NamedTuple):
    """One step as it is on disk, its digests checked."""

    leaves: dict[str, Leaf]
    meta: dict[str, Any]


def read_step(folder: Path, wanted: Collection[str] | None = None) -> Saved:
    """The step in `folder`, of its leaves those that are `wanted`: all if None.

    Whatever is wanted, every file is checked. Raises Damaged where the files are proven to
    be others than were saved, FileNotFoundError where there is no such folder (any more),
    and CheckpointError where it is of another format or cannot be read, time and again,
    for a reason that says nothing about what was saved.
    """
    folder = whole_path(folder.parent) / folder.name
    try:
        return patiently(lambda: look(folder, lambda: read_all(folder, wanted)))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be read, which need not be damage: {first_line(error)}"
        ) from error


def read_all(folder: Path, wanted: Collection[str] | None) -> Saved:
    """One attempt of `read_step`."""
    listed = check_files(folder)
    meta = parse_meta(folder)
    if meta["format"] != FORMAT:
        raise CheckpointError(
            f"{folder} has format {meta['format']}; this version reads {FORMAT}"
        )
    if folder.name != str(meta["step"]):
        raise Damaged(f"it was saved as step {meta['step']}")
    about = {
        path: each
        for path, each in meta["leaves"].items()
        if wanted is None or path in wanted
    }
    with arrays_of(folder, about, listed) as arrays:
        reads = {path: array.read() for path, array in arrays.items()}
        data = {path: read.result() for path, read in reads.items()}
    leaves = {}
    for path, each in about.items():
        leaves[path] = Leaf(each["dtype"], data[path] if path in data else empty(**each))
        if describe(leaves[path]) != each:
            raise Damaged(f"the digest of {path} differs")
    return Saved(leaves, meta)


def check_written(folder: Path, meta: dict[str, Any], *, whole: bool) -> None:
    """Reads back a step just written: its JSON and the shapes of its arrays, or the whole.

    Raises ValueError or OSError if it is not `meta` and what that says of the leaves.
    """
    if read_meta(folder) != {name: x for name, x in meta.items() if name != "sha256"}:
        raise Damaged("its JSON is not what was written")
    if whole:
        read_step(folder)
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


@contextmanager
def arrays_of(
    folder: Path, about: Mapping[str, Any], listed: bool
) -> Iterator[dict[str, ts.TensorStore]]:
    """The arrays that are not empty, opened, their shapes compared, to be read within.

    An error of TensorStore is damage, but not where it stems from the system, nor where the
    files are `listed`: then they are known to be those that were saved.
    """
    try:
        with plainly_named(folder) as plain:
            arrays = {
                path: open_array(plain / "state", path)
                for path, each in about.items()
                if 0 not in each["shape"]
            }
            for path, array in arrays.items():
                # Before a damaged shape can ask for all memory.
                if list(array.shape) != about[path]["shape"]:
                    raise Damaged(f"the shape of {path} differs")
            yield arrays
    except (MemoryError, OSError, Damaged):
        raise
    except Exception as error:
        if listed or OF_THE_SYSTEM.search(str(error)):
            raise Unreadable(first_line(error)) from error
        raise Damaged(first_line(error)) from error


def open_array(folder: Path, path: str) -> ts.TensorStore:
    """One array of an Orbax item, by the library that wrote it.

    Orbax's own restore goes on reading after its first error, into an event loop that is
    closed by then, which fills the terminal just when a damaged step is reported.
    """
    files = {"driver": "file", "path": f"{folder}/"}
    kvstore = {"driver": "ocdbt", "base": files, "path": f"{path}/"}
    return ts.open({"driver": "auto", "kvstore": kvstore}, read=True).result()


def empty(dtype: str, shape: list[int], sha256: str) -> np.ndarray:
    return np.zeros(shape, np.uint32 if dtype.startswith("key<") else jnp.dtype(dtype))


def place(leaves: dict[str, Leaf], like: Any) -> Any:
    """The leaves in the structure and with the shardings of `like`."""
    wanted, structure = jax.tree.flatten(like)
    names = leaf_paths(like)
    if lacking := sorted(set(names) - set(leaves)):
        raise CheckpointError(f"it lacks {', '.join(lacking[:4])}")
    if extra := sorted(set(leaves) - set(names)):
        raise CheckpointError(f"it holds {', '.join(extra[:4])}, which is not wanted")
    return structure.unflatten(
        place_leaf(name, leaves[name], leaf)
        for name, leaf in zip(names, wanted, strict=True)
    )


def place_leaf(name: str, saved: Leaf, wanted: Any) -> Any:
    shape = jax.eval_shape(plain_data, wanted).shape
    if (saved.dtype, saved.data.shape) != (str(wanted.dtype), shape):
        raise CheckpointError(
            f"{name} was saved as {saved.dtype}{list(saved.data.shape)} "
            f"and {wanted.dtype}{list(shape)} is wanted"
        )
    if isinstance(wanted, np.ndarray):
        return saved.data
    if isinstance(wanted, np.generic):
        return saved.data[()]
    # An uncommitted array follows the others of a computation to their devices: it must
    # come back as one.
    sharding = wanted.sharding if getattr(wanted, "committed", True) else None
    return distribute(saved.data, sharding, key_impl(wanted) if is_key(wanted) else None)


def describe(leaf: Leaf) -> dict[str, Any]:
    return {
        "dtype": leaf.dtype,
        "shape": list(leaf.data.shape),
        "sha256": digest_leaf(leaf),
    }


def digest_json(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def first_line(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0]
    # Some thousand characters of TensorStore's options.
    line = line.partition(" [tensorstore_spec=")[0]
    if len(line) > 300:
        # The system's reason comes last.
        line = f"{line[:140]} ... {line[-140:]}"
    return f"{type(error).__name__}: {line}"

"""One step on disk: reading it with every digest checked, and placing it on devices."""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore as ts

from jaxrnn.training.digest import digest_leaf
from jaxrnn.training.leaves import Leaf, is_key, key_impl, path_name, plain_data, spread

FORMAT = 1
SUMS = "SHA256SUMS"


class CheckpointError(ValueError):
    """A checkpoint cannot be saved or restored, for the reason in the message."""


class Saved(NamedTuple):
    """One step as it is on disk, its digests checked."""

    leaves: dict[str, Leaf]
    meta: dict[str, Any]


def read_step(folder: Path) -> Saved:
    """The step in `folder`. Raises for anything missing, altered or unreadable."""
    refuse_links(folder)
    check_files(folder)
    meta = read_meta(folder)
    if meta["format"] != FORMAT:
        raise CheckpointError(
            f"{folder} has format {meta['format']}; this version reads {FORMAT}"
        )
    if folder.name != str(meta["step"]):
        raise ValueError(f"it was saved as step {meta['step']}")
    stored = {
        path: open_array(folder / "state", path)
        for path, about in meta["leaves"].items()
        if 0 not in about["shape"]
    }
    for path, array in stored.items():
        # Before a damaged shape can ask for all memory.
        if list(array.shape) != meta["leaves"][path]["shape"]:
            raise ValueError(f"the shape of {path} differs")
    reads = {path: array.read() for path, array in stored.items()}
    leaves = {}
    for path, about in meta["leaves"].items():
        data = reads[path].result() if path in reads else empty(**about)
        leaves[path] = Leaf(about["dtype"], data)
        if describe(leaves[path]) != about:
            raise ValueError(f"the digest of {path} differs")
    return Saved(leaves, meta)


def open_array(folder: Path, path: str) -> ts.TensorStore:
    """One array of an Orbax item, by the library that wrote it.

    Orbax's own restore goes on reading after its first error, into an event loop that is
    closed by then, which fills the terminal just when a damaged step is reported.
    """
    files = {"driver": "file", "path": f"{folder}/"}
    kvstore = {"driver": "ocdbt", "base": files, "path": f"{path}/"}
    return ts.open({"driver": "auto", "kvstore": kvstore}, read=True).result()


def refuse_links(folder: Path) -> None:
    """Raises ValueError for anything but plain files and folders, itself included."""
    for path in [folder, *folder.rglob("*")]:
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ValueError(
                f"{path.relative_to(folder.parent)} is a link or a special file"
            )


def list_files(folder: Path) -> None:
    """Writes down the SHA-256 of every file, in the format of the command sha256sum.

    A process that is killed just before leaves a step without the list, which is as good:
    the digests of its leaves are in the step's own commit.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in digest_files(folder).items())
    written = folder / f"{SUMS}.tmp"
    written.write_text(lines)
    written.replace(folder / SUMS)


def check_files(folder: Path) -> None:
    """Raises ValueError for a file that is altered, missing, or was not there."""
    if not (folder / SUMS).exists():
        return
    lines = (folder / SUMS).read_text().splitlines()
    listed = {line[66:]: line[:64] for line in lines}
    present = digest_files(folder)
    for name in sorted(listed.keys() | present.keys()):
        if listed.get(name) != present.get(name):
            raise ValueError(f"{name} is not the file that was saved")


def digest_files(folder: Path) -> dict[str, str]:
    names = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    digests = {}
    for name, path in sorted(names.items()):
        if path.is_file() and name not in (SUMS, f"{SUMS}.tmp"):
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def read_meta(folder: Path) -> dict[str, Any]:
    meta = json.loads((folder / "meta" / "metadata").read_text())
    if meta.pop("sha256") != digest_json(meta):
        raise ValueError("the digest of its JSON differs")
    return meta


def empty(dtype: str, shape: list[int], sha256: str) -> np.ndarray:
    return np.zeros(shape, np.uint32 if dtype.startswith("key<") else jnp.dtype(dtype))


def place(leaves: dict[str, Leaf], like: Any) -> Any:
    """The leaves in the structure and with the shardings of `like`."""
    wanted, structure = jax.tree.flatten_with_path(like)
    names = [path_name(path) for path, _ in wanted]
    if lacking := sorted(set(names) - set(leaves)):
        raise CheckpointError(f"it lacks {', '.join(lacking[:4])}")
    if extra := sorted(set(leaves) - set(names)):
        raise CheckpointError(f"it holds {', '.join(extra[:4])}, which is not wanted")
    return structure.unflatten(
        place_leaf(name, leaves[name], leaf)
        for name, (_, leaf) in zip(names, wanted, strict=True)
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
    # An uncommitted array follows the others of a computation to their devices: it must
    # come back as one.
    sharding = wanted.sharding if getattr(wanted, "committed", True) else None
    return spread(saved.data, sharding, key_impl(wanted) if is_key(wanted) else None)


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
    if len(line) > 300:
        # The system's reason comes last.
        line = f"{line[:140]} ... {line[-140:]}"
    return f"{type(error).__name__}: {line}"

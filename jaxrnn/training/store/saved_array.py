"""Arrays of a saved step, read as they are asked for with every digest checked."""

import re
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import tensorstore as ts

from jaxrnn.training.leaves import Bounds, Leaf
from jaxrnn.training.paths import plainly_named
from jaxrnn.training.store.digest import digest_leaf
from jaxrnn.training.store.reads import Damaged, Unreadable, first_line

# How TensorStore tells an error that says nothing about the bytes.
OF_THE_SYSTEM = re.compile(
    "os_error_code|^(RESOURCE_EXHAUSTED|PERMISSION_DENIED|UNAVAILABLE|DEADLINE_EXCEEDED|"
    "ABORTED|CANCELLED|INTERNAL|UNKNOWN):"
)


class SavedPart(NamedTuple):
    """A region of a saved array, which a process wrote as one."""

    at: Bounds
    sha256: str
    array: ts.TensorStore


class SavedArray:
    """An array of a saved step, to be read within `arrays_of`, one part at a time.

    Reading raises Damaged where the digest of a part differs.
    """

    def __init__(
        self, path: str, about: Mapping[str, Any], parts: list[SavedPart], listed: bool
    ) -> None:
        self._path, self._dtype, self._parts = path, about["dtype"], parts
        self._listed = listed
        self.shape: tuple[int, ...] = tuple(about["shape"])
        self.dtype = stored_dtype(about["dtype"])

    def whole(self) -> np.ndarray:
        everything = tuple((0, size) for size in self.shape)
        return self.regions({everything})[everything]

    def regions(self, wanted: Set[Bounds]) -> dict[Bounds, np.ndarray]:
        """The numbers of some regions; of the parts only those are read that they touch."""
        found: dict[Bounds, np.ndarray] = {}
        for part in self._parts:
            touched = {at: overlap(at, part.at) for at in wanted}
            if not any(shared is not None for shared in touched.values()):
                continue
            data = self._read(part)
            for at, shared in touched.items():
                if at == part.at:
                    found[at] = data
                elif shared is not None:
                    region = found[at] if at in found else self._zeros(at)
                    region[within(shared, at)] = data[within(shared, part.at)]
                    found[at] = region
        return {at: self._zeros(at) for at in wanted - found.keys()} | found

    def check(self) -> None:
        """Reads every part, whatever is needed."""
        for part in self._parts:
            self._read(part)

    def _zeros(self, at: Bounds) -> np.ndarray:
        return np.zeros([end - begin for begin, end in at], self.dtype)

    def _read(self, part: SavedPart) -> np.ndarray:
        with as_read(self._listed):
            data = part.array.read().result()
        if digest_leaf(Leaf(self._dtype, data)) != part.sha256:
            raise Damaged(f"the digest of {self._path} differs")
        return data


def overlap(one: Bounds, other: Bounds) -> Bounds | None:
    """The region that two regions share."""
    shared = tuple(
        (max(begin, first), min(end, last))
        for (begin, end), (first, last) in zip(one, other, strict=True)
    )
    return shared if all(begin < end for begin, end in shared) else None


def within(shared: Bounds, outer: Bounds) -> tuple[slice, ...]:
    """The region `shared` as counted from where `outer` begins."""
    return tuple(
        slice(begin - first, end - first)
        for (begin, end), (first, _) in zip(shared, outer, strict=True)
    )


@contextmanager
def arrays_of(
    folder: Path, leaves: Mapping[str, Any], listed: bool
) -> Iterator[dict[str, SavedArray]]:
    """The arrays of a step as its JSON describes its `leaves`, opened, their shapes
    compared, to be read within.

    An error of TensorStore is damage, but not where it stems from the system, nor where the
    files are `listed`: then they are known to be those that were saved.
    """
    with plainly_named(folder) as plain:
        yield {
            path: SavedArray(
                path, about, list(parts_of(plain, path, about, listed)), listed
            )
            for path, about in leaves.items()
        }


def parts_of(
    folder: Path, path: str, about: Mapping[str, Any], listed: bool
) -> Iterator[SavedPart]:
    if 0 in about["shape"]:  # Orbax refuses it, and its shape says all
        return
    everywhere = [(0, size) for size in about["shape"]]
    for part in about.get("parts", [{"at": everywhere, "sha256": about.get("sha256")}]):
        at = tuple((begin, end) for begin, end in part["at"])
        if "share" in part:
            files = database(folder / "shares" / str(part["share"]), part_name(path, at))
        else:
            files = database(folder / "state", path)
        # Orbax's own restore goes on reading after its first error, into an event loop that
        # is closed by then, which fills the terminal just when damage is reported.
        with as_read(listed):
            array = ts.open({"driver": "auto", "kvstore": files}, read=True).result()
        # Before a damaged shape can ask for all memory.
        if list(array.shape) != [end - begin for begin, end in at]:
            raise Damaged(f"the shape of {path} differs")
        yield SavedPart(at, part["sha256"], array)


@contextmanager
def as_read(listed: bool) -> Iterator[None]:
    """Tells TensorStore's errors apart, as `arrays_of` says."""
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:
        if listed or OF_THE_SYSTEM.search(str(error)):
            raise Unreadable(first_line(error)) from error
        raise Damaged(first_line(error)) from error


def database(folder: Path, name: str) -> dict[str, Any]:
    """Where TensorStore finds an array in a folder that Orbax or a share wrote."""
    files = {"driver": "file", "path": f"{folder}/"}
    return {"driver": "ocdbt", "base": files, "path": f"{name}/"}


def part_name(path: str, at: Bounds) -> str:
    """The name of a part in its share: params/w@0:4,2:8."""
    return f"{path}@{','.join(f'{begin}:{end}' for begin, end in at)}"


def stored_dtype(dtype: str) -> np.dtype:
    """Of a leaf's array: that of key data, where it is of keys."""
    return np.dtype(np.uint32 if dtype.startswith("key<") else jnp.dtype(dtype))

"""The leaves of a tree, between the host and the devices of one or several processes."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

# Where a region of an array begins and ends along each axis.
Bounds = tuple[tuple[int, int], ...]


class Leaf(NamedTuple):
    """One leaf of a tree as plain numbers on the host."""

    dtype: str  # of the leaf: "float32", "bfloat16", "key<fry>"
    # For a typed PRNG key its key data: all of it as an np.ndarray, a SavedArray that is
    # still to be read, or the Regions that this process needs.
    data: Any


@dataclass(frozen=True)
class Regions:
    """Of an array that lies over several processes what the devices of this one hold."""

    shape: tuple[int, ...]
    held: dict[Bounds, np.ndarray]

    @property
    def dtype(self) -> np.dtype:
        return next(iter(self.held.values())).dtype

    def __getitem__(self, at: tuple[slice, ...]) -> np.ndarray:
        return self.held[bounds(at, self.shape)]


def bounds(at: tuple[slice, ...], shape: tuple[int, ...]) -> Bounds:
    """Where a region of an array of `shape` begins and ends along each axis."""
    return tuple(part.indices(size)[:2] for part, size in zip(at, shape, strict=True))


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by path. Raises ValueError for one that is not an array."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    leaves = {path_name(path): leaf for path, leaf in paths}
    if len(leaves) < len(paths):
        raise ValueError("two leaves of the tree have the same path once joined by '/'")
    for path, leaf in leaves.items():
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            raise ValueError(f"{path} is a {type(leaf).__name__}, not an array")
    return leaves


def host_leaf(leaf: Any) -> Leaf:
    """A leaf on the host, whole; it may share memory with the leaf's array.

    One that lies over several processes is gathered: all of them must call.
    """
    return Leaf(str(leaf.dtype), to_host(plain_data(leaf)))


def lies_in_parts(leaf: Any) -> bool:
    """Whether no process has all of a leaf."""
    return (
        isinstance(leaf, jax.Array)
        and leaf.size > 0
        and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
    )


def leaf_paths(tree: Any) -> list[str]:
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [path_name(path) for path, _ in paths]


def path_name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def plain_data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def key_impl(keys: Any) -> Any:
    impls = []
    # A ShapeDtypeStruct of keys tells its implementation only while it is traced.
    jax.eval_shape(lambda traced: impls.append(jax.random.key_impl(traced)), keys)
    return impls[0]


def to_host(array: Any) -> np.ndarray:
    if lies_in_parts(array):
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    if array.size == 0:
        return np.zeros(array.shape, array.dtype)
    return np.asarray(array)


def bounds_here(shape: tuple[int, ...], sharding: Sharding) -> set[Bounds]:
    """The regions of an array of `shape` that the devices of this process hold."""
    regions = sharding.addressable_devices_indices_map(shape).values()
    return {bounds(at, shape) for at in regions if at is not None}


def distribute(array: Any, sharding: Sharding | None, impl: Any = None) -> jax.Array:
    """An array that every process has whole, or its regions of it, over the devices of
    all of them.

    impl: the implementation of the typed keys that the array is the data of.
    """
    if is_key(array):
        return distribute(jax.random.key_data(array), sharding, jax.random.key_impl(array))
    if impl is not None:
        # Compiled, since device_put does not spread keys over several processes.
        wrap = partial(jax.random.wrap_key_data, impl=impl)
        return jax.jit(wrap, out_shardings=sharding)(np.asarray(array))
    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    there: Any = array if isinstance(array, Regions) else np.asarray(array)
    return jax.make_array_from_callback(there.shape, sharding, lambda at: there[at])

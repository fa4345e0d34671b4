"""SHA-256 digests of trees of arrays: what makes "the same bits" checkable."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils


class Leaf(NamedTuple):
    """One leaf of a tree as plain numbers on the host."""

    dtype: str  # of the leaf: "float32", "bfloat16", "key<fry>"
    data: np.ndarray  # for a typed PRNG key: its key data


def digest_leaves(tree: Any) -> dict[str, str]:
    """SHA-256 of every leaf, over its dtype, shape and bytes, by its path in the tree.

    A typed PRNG key counts with its implementation; a sharded array is gathered
    (with several processes, all of them must call). Raises ValueError for a leaf
    that is not an array.
    """
    return {path: digest_leaf(leaf) for path, leaf in host_leaves(tree).items()}


def digest_tree(tree: Any) -> str:
    """One SHA-256 over the digests of all leaves, in the order of their paths."""
    return digest_of_digests(digest_leaves(tree))


def digest_of_digests(digests: Mapping[str, str]) -> str:
    lines = "".join(f"{path} {digests[path]}\n" for path in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def digest_leaf(leaf: Leaf) -> str:
    hasher = hashlib.sha256(f"{leaf.dtype}{list(leaf.data.shape)}\n".encode())
    hasher.update(np.ascontiguousarray(leaf.data).reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def host_leaves(tree: Any) -> dict[str, Leaf]:
    """The leaves on the host by path; they may share memory with the tree's arrays."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    leaves = {path_name(path): leaf for path, leaf in paths}
    if len(leaves) < len(paths):
        raise ValueError("two leaves of the tree have the same path once joined by '/'")
    for path, leaf in leaves.items():
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            raise ValueError(f"{path} is a {type(leaf).__name__}, not an array")
    plain = {path: plain_data(leaf) for path, leaf in leaves.items()}
    # Start every transfer from the device before waiting for the first.
    for data in plain.values():
        if isinstance(data, jax.Array) and data.is_fully_addressable:
            data.copy_to_host_async()
    return {path: Leaf(str(leaves[path].dtype), to_host(plain[path])) for path in leaves}


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
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)

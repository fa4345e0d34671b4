"""The leaves of a tree, between the host and the devices of one or several processes."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding


class Leaf(NamedTuple):
    """One leaf of a tree as plain numbers on the host."""

    dtype: str  # of the leaf: "float32", "bfloat16", "key<fry>"
    data: np.ndarray  # for a typed PRNG key: its key data


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
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


def distribute(array: Any, sharding: Sharding | None, impl: Any = None) -> jax.Array:
    """An array that every process has whole, over the devices of all of them.

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
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda at: whole[at])

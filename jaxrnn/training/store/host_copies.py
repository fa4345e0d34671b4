"""Copies on the host of what a process is to write, which training may then donate."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn.training.leaves import (
    Bounds,
    Leaf,
    bounds,
    host_leaf,
    lies_in_parts,
    named_leaves,
    plain_data,
)
from jaxrnn.training.processes import is_first


class Part(NamedTuple):
    """A region of a leaf."""

    at: Bounds
    data: np.ndarray


class CutLeaf(NamedTuple):
    """A leaf that lies over several processes, and the parts that this one writes."""

    dtype: str
    shape: tuple[int, ...]
    parts: list[Part]


def copies_of(state: Any) -> tuple[dict[str, Leaf], dict[str, CutLeaf]]:
    """What this process writes of a state: the leaves that are whole, if it is the first
    one, and its parts of those that no process has whole."""
    leaves = named_leaves(state)
    cut = {path: leaf for path, leaf in leaves.items() if lies_in_parts(leaf)}
    whole = {path: leaves[path] for path in leaves.keys() - cut.keys() if is_first()}
    start_transfers([*whole.values(), *cut.values()])
    return (
        {path: copied(leaf) for path, leaf in whole.items()},
        {path: own_parts(leaf) for path, leaf in cut.items()},
    )


def copied(leaf: Any) -> Leaf:
    dtype, data = host_leaf(leaf)
    return Leaf(dtype, np.array(data))


def own_parts(leaf: Any) -> CutLeaf:
    array = plain_data(leaf)
    return CutLeaf(
        str(leaf.dtype),
        array.shape,
        [
            Part(bounds(shard.index, array.shape), np.array(shard.data))
            for shard in own_shards(array)
        ],
    )


def own_shards(array: jax.Array) -> list[Any]:
    """Of what several devices hold the same, the first one's."""
    return [shard for shard in array.addressable_shards if shard.replica_id == 0]


def start_transfers(leaves: Iterable[Any]) -> None:
    """Has all leaves come from their devices before the first one is waited for."""
    for array in map(plain_data, leaves):
        if isinstance(array, jax.Array):
            for shard in own_shards(array):
                shard.data.copy_to_host_async()

"""SHA-256 digests of trees of arrays: what makes "the same bits" checkable."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrnn.training.leaves import Leaf, host_leaf, named_leaves


def digest_leaves(tree: Any) -> dict[str, str]:
    """SHA-256 of every leaf, over its dtype, shape and bytes, by its path in the tree.

    A typed PRNG key counts with its implementation. What lies over several processes is
    gathered, one leaf at a time and no more (all of them must call): so a digest is the
    same wherever the leaf lies. Raises ValueError for a leaf that is not an array.
    """
    leaves = named_leaves(tree).items()
    return {path: digest_leaf(host_leaf(leaf)) for path, leaf in leaves}


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

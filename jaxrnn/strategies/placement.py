"""A carry placed on the mesh as the inputs that it will take in.

JAX's types say how an array lies on a mesh: inside `shard_map`, over which axes it
varies; under explicit axes, how it is sharded. A loop returns a carry of the type it
was given, and a start of zeros lies nowhere in particular while xs may be cut in pieces.
"""

from typing import Any

import jax
from jax import Array
from jax.sharding import PartitionSpec


def vary(tree: Any, *others: Any) -> Any:
    """A tree of arrays, each varying over all mesh axes that any of it or others does.

    What is the same on all devices and enters a loop as such has its gradient summed
    over the devices at every step; made varying before the loop, once after it.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    axes = frozenset().union(*map(_varying, jax.tree.leaves((tree, *others))))

    def varied(leaf: Array) -> Array:
        missing = tuple(sorted(axes - _varying(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(varied, tree)


def shard(carry: Any, xs: Array, features: int) -> Any:
    """A tree of leaves `[*batch, ...]`, sharded over batch as xs `[T, *batch, ...]`, whose
    last `features` axes are no batch."""
    if jax.sharding.get_abstract_mesh().empty:
        return carry
    batch = _spec(xs)[1 : xs.ndim - features]

    def sharded(leaf: Array) -> Array:
        spec = (*batch, *_spec(leaf)[len(batch) :])
        return leaf if spec == _spec(leaf) else jax.reshard(leaf, PartitionSpec(*spec))

    return jax.tree.map(sharded, carry)


def _varying(leaf: Array) -> frozenset[str]:
    return jax.typeof(leaf).manual_axis_type.varying


def _spec(leaf: Array) -> tuple:
    spec = tuple(jax.typeof(leaf).sharding.spec)
    return spec + (None,) * (leaf.ndim - len(spec))

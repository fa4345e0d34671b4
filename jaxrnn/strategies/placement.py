"""A carry placed on the mesh as the inputs that it will take in.

JAX's types say how an array lies on a mesh: inside `shard_map`, over which axes it
varies; under explicit axes, how it is sharded. A loop returns a carry of the type it
was given, and a start of zeros lies nowhere in particular while xs may be cut in pieces.
"""

from typing import Any

import jax
from jax import Array
from jax.sharding import PartitionSpec


def place(carry: Any, xs: Array, *others: Any) -> Any:
    """A tree of leaves `[*batch, ...]` that varies as much as xs `[T, *batch, D]` and the
    trees `others` do together, with its batch axes sharded as those of xs."""
    if jax.sharding.get_abstract_mesh().empty:
        return carry
    varying = frozenset().union(*map(_varying, jax.tree.leaves((xs, *others))))
    batch = _spec(xs)[1:-1]

    def placed(leaf: Array) -> Array:
        missing = tuple(sorted(varying - _varying(leaf)))
        leaf = jax.lax.pcast(leaf, missing, to="varying") if missing else leaf
        spec = (*batch, *_spec(leaf)[len(batch) :])
        return leaf if spec == _spec(leaf) else jax.reshard(leaf, PartitionSpec(*spec))

    return jax.tree.map(placed, carry)


def _varying(leaf: Array) -> frozenset[str]:
    return jax.typeof(leaf).manual_axis_type.varying


def _spec(leaf: Array) -> tuple:
    spec = tuple(jax.typeof(leaf).sharding.spec)
    return spec + (None,) * (jax.numpy.ndim(leaf) - len(spec))

"""Arrays as cells handle them: their dtypes, and parameters that meet all rows."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def cast_like(tree: Any, like: Any) -> Any:
    """`tree` in the dtypes of `like`, leaf by leaf."""
    return jax.tree.map(lambda a, b: a.astype(b.dtype), tree, like)


def widen(tree: Any) -> Any:
    """The real floating leaves in float32 where they are narrower, the rest untouched."""

    def wide(leaf: Array) -> Array:
        narrow = jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize < 4
        return leaf.astype(jnp.float32) if narrow else leaf

    return jax.tree.map(wide, tree)


def across(vector: Array, like: Array) -> Array:
    """A parameter `[N]` with as many axes as `like` `[..., *]`, to meet all its rows.

    Written out, because `jax_numpy_rank_promotion="raise"` lets no ranks differ, and with
    a narrow parameter for each row by itself, so that its gradient, the sum over all rows
    of all time steps, is added up in float32.
    """
    ranked = jax.lax.broadcast_to_rank(widen(vector), like.ndim)
    if ranked.dtype == vector.dtype:
        return ranked
    return (ranked + jnp.zeros_like(like[..., :1], ranked.dtype)).astype(vector.dtype)


def zeros(params: Any, batch_shape: tuple[int, ...], size: int) -> Array:
    """Zeros `[*batch_shape, size]` in the dtype of `params`: a carry's usual start.

    A cell calls it once for each leaf: a carry may be donated, and the same array twice
    may not.
    """
    return jnp.zeros((*batch_shape, size), jax.tree.leaves(params)[0].dtype)


def by_itself(tree: Any) -> Any:
    """`tree`, computed before what uses it, where the host that traces is a CPU.

    XLA:CPU else draws all arithmetic of a gate into one loop over its result, and what it
    slices out of wider blocks there is not vectorised, transcendentals least of all. (In
    JAX 0.10 XLA forgets the barrier before it does so.)
    """
    cpu = jax.default_backend() == "cpu"
    return jax.lax.optimization_barrier(tree) if cpu else tree

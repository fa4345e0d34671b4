"""Choosing between two carries, row by row of the batch."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array

Tree = TypeVar("Tree")


def select(flags: Array | None, where_true: Tree, where_false: Tree) -> Tree:
    """`where_true` in the rows whose flag is set; flags `[...]`, leaves `[..., *]`.

    No flags at all (None) choose `where_true`. Never a multiplication: a NaN on the side
    not chosen does not come through.
    """
    if flags is None:
        return where_true

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(flags.reshape(flags.shape + (1,) * (a.ndim - flags.ndim)), a, b)

    return jax.tree.map(choose, where_true, where_false)

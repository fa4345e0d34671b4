"""The guard against numbers that are not finite: such a step is counted, and no update."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.strategies.select import select
from jaxrnn.training.state import TrainState


def guarded(
    state: TrainState, updated: TrainState, finite: Array, halt_after: int
) -> TrainState:
    """The state after a step that would make it `updated`, if its numbers are `finite`.

    After `halt_after` steps in a row that are not, nothing changes any more.
    """
    moves = state.bad_in_row < halt_after
    bad_in_row = jnp.where(finite, 0, state.bad_in_row + 1)
    return select(finite & moves, updated, state)._replace(
        step=state.step + moves.astype(jnp.int32),
        skipped=state.skipped + (moves & ~finite).astype(jnp.int32),
        bad_in_row=jnp.where(moves, bad_in_row, state.bad_in_row),
    )


def all_finite(tree: Any) -> Array:
    """[] bool: whether every number of the tree is finite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))

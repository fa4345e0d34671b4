"""A batch learned from in parts, with the memory of one of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.training.mesh import DATA, Spec

# descend(carry, batch, key) -> (means over the batch, carry)
Descend = Callable[[Any, Any, Array], tuple[Any, Any]]
# weight(batch) -> [] how much a part counts beside the others
Weight = Callable[[Any], Array]


def in_parts(
    descend: Descend, parts: int, carry_spec: Spec, batch_spec: Spec, weight: Weight
) -> Descend:
    """`descend` of each part of the rows in turn, to the weighted means of what it gives.

    Every `parts`th row belongs to one part, so that each device has its share of all of
    them. Raises ValueError for a carry that all rows share.
    """

    def axis(leaf: Any, spec: Spec) -> int:
        try:
            return tuple(spec(leaf)).index(DATA)
        except ValueError:
            raise ValueError(
                f"an array that all rows share, {leaf.dtype}{list(leaf.shape)}, cannot be "
                f"learned from in {parts} parts: accumulate must be 1"
            ) from None

    def cut(leaf: Array, spec: Spec) -> Array:
        at = axis(leaf, spec)
        rows = leaf.shape[at]
        shape = (*leaf.shape[:at], rows // parts, parts, *leaf.shape[at + 1 :])
        return jnp.moveaxis(leaf.reshape(shape), at + 1, 0)

    def join(leaf: Array, like: Array) -> Array:
        return jnp.moveaxis(leaf, 0, axis(like, carry_spec) + 1).reshape(like.shape)

    def whole(carry: Any, batch: Any, key: Array) -> tuple[Any, Any]:
        carries = jax.tree.map(lambda leaf: cut(leaf, carry_spec), carry)
        batches = jax.tree.map(lambda leaf: cut(leaf, batch_spec), batch)
        first = jax.tree.map(lambda leaf: leaf[0], (carries, batches))
        means, _ = jax.eval_shape(descend, *first, key)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), means)

        weights = jax.vmap(weight)(batches)
        shares = weights / jnp.sum(weights)

        def add(total: Any, part: tuple) -> tuple[Any, Any]:
            carry, batch, number, share = part
            means, carry = descend(carry, batch, jax.random.fold_in(key, number))

            def add_mean(before: Array, mean: Array) -> Array:
                # Of a part that counts nothing the means need not be numbers.
                return jnp.where(
                    share > 0, before + share.astype(mean.dtype) * mean, before
                )

            return jax.tree.map(add_mean, total, means), carry

        each = carries, batches, jnp.arange(parts), shares
        means, after = jax.lax.scan(add, nothing, each)
        return means, jax.tree.map(join, after, carry)

    return whole

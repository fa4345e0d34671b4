"""What the steps of a block of time have of earlier ones: lower triangular matrices."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.arrays import across


def sight(reset: Array | None, like: Array) -> tuple[Array, Array]:
    """Whether step t sees the input of s `[..., t, s]`, and whether it sees the memory
    before the block `[..., t]`; like `[..., heads, L]`."""
    steps = jnp.arange(like.shape[-1])
    seen = across(steps[:, None] >= steps[None], like[..., None])
    if reset is None:
        return seen, across(steps >= 0, like)
    segment = jnp.cumsum(jnp.moveaxis(reset, 0, -1)[..., None, :], axis=-1)
    same = segment[..., :, None] == segment[..., None, :]
    return seen & same, segment == 0


def decays(log_a: Array, seen: Array) -> tuple[Array, Array]:
    """What step t has left of the memory that it sees `[..., t]`, and of what s wrote
    `[..., t, s]`."""
    total = jnp.sum(jnp.where(seen, log_a[..., None, :], 0.0), axis=-1)
    # Not total - total', whose derivative is a small difference of large sums.
    after = strictly_lower(
        jnp.broadcast_to(log_a[..., None], (*log_a.shape, log_a.shape[-1]))
    )
    between = jnp.cumsum(after, axis=-2)
    return jnp.exp(total), jnp.exp(jnp.where(seen, between, -jnp.inf))


def strictly_lower(a: Array) -> Array:
    rows = jnp.arange(a.shape[-1])
    below = across(rows[:, None] > rows[None], a)
    return jnp.where(below, a, jnp.zeros_like(a))


def substitute(below: Array, b: Array) -> Array:
    """x of (I + below) x = b, where `below` is zero but below its diagonal.

    By the inverse of blocks along the diagonal, each from those of its halves: products of
    matrices alone, exact as substitution is. JAX's own `triangular_solve` waits for ever on
    a CPU of two cores where two of them run at once.
    """
    size = below.shape[-1]
    identity = across(jnp.eye(size, dtype=below.dtype), below)
    inverse = jnp.zeros_like(below) + identity  # so that it lies on a mesh as `below` does
    rows, half = np.arange(size), 1
    while half < size:
        block = rows // half
        pairs = (block[:, None] % 2 == 1) & (block[:, None] == block[None] + 1)
        between = jnp.where(across(jnp.asarray(pairs), below), below, 0.0)
        inverse = inverse - inverse @ between @ inverse
        half *= 2
    return inverse @ b

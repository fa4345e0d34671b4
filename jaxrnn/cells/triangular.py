"""What the steps of a block of time have of earlier ones: lower triangular matrices."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax.linalg import triangular_solve

from jaxrnn.cell import across


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


@jax.custom_jvp
def substitute(below: Array, b: Array) -> Array:
    """x of (I + below) x = b, where `below` is zero but below its diagonal.

    With a derivative of its own, since that of JAX masks the tangent of `below` once more,
    by a mask that on a mesh of explicit axes does not lie where the tangent does.
    """
    return triangular_solve(below, b, left_side=True, lower=True, unit_diagonal=True)


@substitute.defjvp
def _substitute_jvp(primals, tangents):
    (below, b), (below_dot, b_dot) = primals, tangents
    x = substitute(below, b)
    return x, substitute(below, b_dot - below_dot @ x)

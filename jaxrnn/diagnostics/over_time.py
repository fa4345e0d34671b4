"""What a recurrence holds at every step, and how far back its loss reaches."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.arrays import across
from jaxrnn.cell import Recurrence
from jaxrnn.entry import leading_shape
from jaxrnn.strategies.select import select
from jaxrnn.unroll import unroll

# How many rows of a Jacobian go back through time together: each holds a gradient as
# large as the carries of all steps, and one by one they take twice as long.
OUTPUTS_AT_ONCE = 16


class Walk(NamedTuple):
    """What passed through a recurrence, step by step."""

    entering: Any  # carries before each step, after its reset: leaves [T, ..., *]
    leaving: Any  # carries after each step
    ys: Array  # [T, ..., output_size]


@partial(jax.jit, static_argnames="recurrence")
def walk(
    recurrence: Recurrence,
    params: Any,
    xs: Array,
    carry: Any = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    push: Any = None,
) -> Walk:
    """`unroll`, step by step, with every carry kept.

    xs `[T, ..., D]`, `carry`, `mask` and `reset` are those of `unroll`. `push`, a tree
    like `entering`, is added to the carries that enter: what their derivative is taken
    by. Raises ValueError where `unroll` would, and for a recurrence that does not step.
    """
    jax.eval_shape(  # for what it refuses
        lambda: unroll(recurrence, params, xs, carry, mask=mask, reset=reset)
    )
    start = recurrence.initial_carry(params, leading_shape(recurrence, xs)[1:])
    xs = select(mask, xs, jnp.zeros_like(xs))

    def step(carry: Any, inputs: Any) -> tuple[Any, Walk]:
        x, valid, begin, push = inputs
        entering = carry if begin is None else select(begin, start, carry)
        if push is not None:
            entering = jax.tree.map(jnp.add, entering, push)
        after, y = recurrence.step(params, entering, x)
        leaving = select(valid, after, entering)
        y = select(valid, y, jnp.zeros_like(y))
        return leaving, Walk(entering, leaving, y)

    first = start if carry is None else carry
    return jax.lax.scan(step, first, (xs, mask, reset, push))[1]


@partial(jax.jit, static_argnames="recurrence")
def state_norms(
    recurrence: Recurrence,
    params: Any,
    xs: Array,
    carry: Any = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
) -> Any:
    """The Euclidean norm of each leaf of the carry after each step: a tree like the carry
    with leaves `[T, ...]`.

    Arguments and errors are those of `walk`.
    """
    leaving = walk(recurrence, params, xs, carry, mask=mask, reset=reset).leaving
    leading = len(leading_shape(recurrence, xs))
    return jax.tree.map(lambda leaf: jnp.sqrt(_squares([leaf], leading)), leaving)


def gradient_by_lag(
    recurrence: Recurrence,
    params: Any,
    xs: Array,
    loss: Callable[[Array], Array] | None = None,
    carry: Any = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
) -> Array:
    """How much of the past the loss depends on: the norm of its gradient by each carry.

    Entry k of the result `[T, ...]` is || d loss / d carry ||, of the carry that enters
    the step k steps before the last one of its row; NaN where a row has no such step. All
    leaves of the carry count together, of a composition all of its parts'.

    `loss(ys)` is a scalar, a sum over rows that do not see one another. Without it, the
    last valid output of each row takes its place and the norm is the Frobenius norm of
    the Jacobian d y / d carry. The other arguments and errors are those of `walk`.
    """
    ys_bar = None
    if loss is not None:
        # The loss stays out of what is compiled, whose cache would keep its arrays.
        ys_bar = jax.grad(loss)(
            walk(recurrence, params, xs, carry, mask=mask, reset=reset).ys
        )
    return _norms_by_lag(recurrence, params, xs, ys_bar, carry, mask, reset)


@partial(jax.jit, static_argnames="recurrence")
def _norms_by_lag(
    recurrence: Recurrence,
    params: Any,
    xs: Array,
    ys_bar: Array | None,
    carry: Any,
    mask: Array | None,
    reset: Array | None,
) -> Array:
    """`gradient_by_lag` from the loss's gradient by the outputs on."""
    passed = walk(recurrence, params, xs, carry, mask=mask, reset=reset)
    leading = leading_shape(recurrence, xs)
    valid = jnp.ones(leading, bool) if mask is None else mask
    lags = jnp.cumsum(valid[::-1].astype(jnp.int32), axis=0)[::-1] - 1

    def pushed(push: Any) -> Array:
        return walk(recurrence, params, xs, carry, mask=mask, reset=reset, push=push).ys

    ys, pull = jax.vjp(pushed, jax.tree.map(jnp.zeros_like, passed.entering))

    def reached(ys_bar: Array) -> Array:
        leaves = jax.tree.leaves(pull(ys_bar))
        # Leaves that count steps have no derivative.
        return _squares([leaf for leaf in leaves if _differentiable(leaf)], len(leading))

    if ys_bar is None:
        last = valid & (lags == 0)
        shape = recurrence.output_shape
        squares = jax.lax.map(
            lambda unit: reached(select(last, across(unit, ys), jnp.zeros_like(ys))),
            jnp.eye(math.prod(shape), dtype=ys.dtype).reshape(-1, *shape),
            batch_size=OUTPUTS_AT_ONCE,
        ).sum(axis=0)
    else:
        squares = reached(ys_bar)
    return _by_lag(jnp.sqrt(squares), lags, valid)


def _by_lag(norms: Array, lags: Array, valid: Array) -> Array:
    """Norms `[T, ...]` moved to the entry of their lag."""
    length = len(norms)
    # Masked steps go to an entry of their own, which is dropped.
    to = jnp.where(valid, lags, length)
    empty = jnp.full((length + 1, *norms.shape[1:]), jnp.nan, norms.dtype)
    rows = jnp.indices(norms.shape, sparse=True)[1:]
    return empty.at[(to, *rows)].set(norms)[:length]


def _squares(leaves: list[Array], kept: int) -> Array:
    """Their sum over all leaves and all but the first `kept` axes."""
    squares = [
        jnp.sum(jnp.square(jnp.abs(leaf)), axis=tuple(range(kept, leaf.ndim)))
        for leaf in leaves
    ]
    return sum(squares[1:], squares[0])


def _differentiable(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)

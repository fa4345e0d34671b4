"""Deferred weight gradients, for every cell that splits into `mix` and `gate`.

JAX's own reverse mode forms the gradient of the recurrent weights step by step, one
small product and one addition to a matrix as large as the weights each time. Here the
loop back through time carries only the gradient of the carry; what it leaves behind for
every step, the gradient of `mix`'s output, then gives the weight gradients of all steps
in one product. No derivative is written by hand: `gate` and `mix` are transposed by JAX.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cell import Cell
from jaxrnn.strategies import scan
from jaxrnn.strategies.select import select

WHY = "all weight gradients form one product after the loop, instead of one a step"


def refusal(cell: Cell) -> str | None:
    if not cell.splits:
        return "its recurrence does not split into mix and gate"
    return None


def over_time(
    cell: Cell,
    params: Any,
    start: Any,
    carry: Any,
    xs: Array,
    mask: Array | None,
    reset: Array | None,
    reverse: bool,
) -> tuple[Any, Array]:
    us = cell.project(params, xs)
    return _recur(cell, reverse, params, start, carry, us, mask, reset)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recur(cell, reverse, params, start, carry, us, mask, reset):
    # Without derivatives, a loop that keeps nothing but the outputs.
    return scan.recur_over_time(cell, params, start, carry, us, mask, reset, reverse)


def _forward(cell, reverse, params, start, carry, us, mask, reset):
    def step(carry, inputs):
        u, valid, begin = inputs
        carry = carry if begin is None else select(begin, start, carry)
        r = cell.mix(params, carry)
        after, y = cell.gate(params, carry, u, r)
        y = select(valid, y, jnp.zeros_like(y))
        return select(valid, after, carry), (y, carry, r)

    last, (ys, carries, rs) = jax.lax.scan(step, carry, (us, mask, reset), reverse=reverse)
    return (last, ys), (params, us, mask, reset, carries, rs)


def _backward(cell, reverse, residuals, cotangents):
    params, us, mask, reset, carries, rs = residuals
    last_bar, ys_bar = cotangents
    last_bar = _differentiable(last_bar)
    # Transposed once here and back again inside the loop, where it folds into the
    # product: else XLA:CPU transposes the recurrent weights at every step.
    flipped = jax.lax.optimization_barrier(_transpose(params))

    def step_back(state, inputs):
        carry_bar, start_bar, params_bar = state
        y_bar, carry, u, r, valid, begin = inputs
        params = _transpose(flipped)
        _, gate_pullback = jax.vjp(cell.gate, params, carry, u, r)
        _, mix_pullback = jax.vjp(partial(cell.mix, params), carry)

        after_bar = select(valid, carry_bar, _zeros(carry_bar))
        y_bar = select(valid, y_bar, jnp.zeros_like(y_bar))
        gate_params_bar, direct_bar, u_bar, r_bar = gate_pullback(
            (_filled(after_bar, carry), y_bar)
        )
        (through_bar,) = mix_pullback(r_bar)
        before_bar = _add(_differentiable(direct_bar), _differentiable(through_bar))
        if valid is not None:
            before_bar = select(valid, before_bar, carry_bar)
        if begin is not None:
            start_bar = _add(start_bar, select(begin, before_bar, _zeros(before_bar)))
            before_bar = select(begin, _zeros(before_bar), before_bar)
        return (before_bar, start_bar, _add(params_bar, gate_params_bar)), (
            _differentiable(u_bar),
            r_bar,
        )

    state = (last_bar, _zeros(last_bar), _zeros(params))
    (carry_bar, start_bar, gate_params_bar), (us_bar, rs_bar) = jax.lax.scan(
        step_back, state, (ys_bar, carries, us, rs, mask, reset), reverse=not reverse
    )
    _, mix_pullback = jax.vjp(lambda params: cell.mix(params, carries), params)
    (mix_params_bar,) = mix_pullback(rs_bar)
    params_bar = _add(gate_params_bar, mix_params_bar)
    return params_bar, start_bar, carry_bar, us_bar, None, None


_recur.defvjp(_forward, _backward)


def _transpose(params):
    return jax.tree.map(lambda w: jnp.swapaxes(w, -1, -2) if w.ndim > 1 else w, params)


def _differentiable(tree):
    """None for the leaves that have no gradient: integers, and the bits of a noise."""
    return jax.tree.map(lambda g: None if g.dtype == jax.dtypes.float0 else g, tree)


def _filled(tree, like):
    """The inverse of `_differentiable`."""

    def fill(g, a):
        # Where the carry itself has None, there is nothing to fill.
        if g is not None or a is None:
            return g
        return np.zeros(a.shape, jax.dtypes.float0)

    return jax.tree.map(fill, tree, like, is_leaf=lambda g: g is None)


def _zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def _add(a, b):
    return jax.tree.map(jnp.add, a, b)

"""Deferred weight gradients, for every cell that splits into `mix` and `gate`.

JAX's own reverse mode forms the gradient of the recurrent weights step by step, one
small product and one addition to a matrix as large as the weights each time. Here the
tangents that the parameters send into the steps are formed for all of time at once, and
the loop over time takes them in like an input. So the loop back through time carries
only the gradient of the carry; what it leaves behind for every step gives the gradient
of the parameters after the loop, that of `mix`'s weights in one product.

Only this tangent is written down, in terms of JAX's own tangents of `mix` and `gate`.
JAX transposes it, so that forward mode, reverse mode and their compositions all work.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import zero_from_primal
from jax.extend.core import Literal

from jaxrnn.arrays import widen
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.preactivation import add, preactivation
from jaxrnn.strategies.products import by_transposed, for_all_steps
from jaxrnn.strategies.program import with_products
from jaxrnn.strategies.scan import loop
from jaxrnn.strategies.select import select
from jaxrnn.strategies.step import Step, project
from jaxrnn.strategies.strategy import Strategy
from jaxrnn.strategies.turns import over_steps


@dataclass(frozen=True)
class Fused(Strategy):
    """A loop whose derivative by the parameters is formed after it, all steps at once."""

    why = "all weight gradients form one product after the loop, instead of one a step"

    def refusal(self, call: Call, platform: str) -> str | None:
        if not call.cell.splits:
            return "its recurrence does not split into mix and gate"
        return None

    def over_time(self, call: Call) -> tuple[Any, Array]:
        us = project(call)
        step = Step.of(call, us)
        weights = step.weights(widen(call.params))
        start = call.cell.widen(call.start)
        return _recur(step, weights, call.replace(params=None, start=start, inputs=us))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recur(step: Step, weights: Any, call: Call) -> tuple[Any, Array]:
    # Without derivatives, a loop that keeps nothing but the outputs.
    return loop(partial(step.recur, weights), call)


@_recur.defjvp
def _recur_jvp(step, primals, tangents):
    weights, call = primals
    weights_dot, call_dot = map(_differentiable, tangents)
    taken = preactivation(step, weights, call.carry, call.inputs)
    last, ys, carries, kept = _keeping(step, weights, call, taken)

    # What the parameters move at all steps at once.
    def mixed(weights):
        return for_all_steps(step.mix)(weights, carries)

    rs_dot = _jvp(mixed, (weights,), (weights_dot,))
    kept_dot = taken.dot(call_dot.inputs, rs_dot)

    def gated(weights):
        return taken.gate(step, weights, carries, kept)

    after_dots, ys_dot = _by_parameters_of_gate(gated, weights, weights_dot)

    # Transposed once, as the products of the way back take them in: XLA:CPU transposes
    # others at every step, and multiplies narrow ones in float32.
    flipped = jax.lax.optimization_barrier(_transpose(weights))

    # The way back computes again what it needs of a step, from the carry before it.
    @partial(jax.checkpoint, prevent_cse=False)
    def move(carry_dot, inputs):
        now_dot, param_dot, carry, now, valid, begin = inputs
        weights = _transpose(flipped)
        if begin is not None:
            carry_dot = select(begin, call_dot.start, carry_dot)
        mix = with_products(step.mix, by_transposed(weights, flipped))
        through_dot = _jvp(partial(mix, weights), (carry,), (carry_dot,))
        after_dot, y_dot = _jvp(
            partial(taken.gate, step, weights),
            (carry, now),
            (carry_dot, taken.moved(now_dot, through_dot)),
        )
        return select(valid, add(after_dot, param_dot), carry_dot), y_dot

    last_dot, y_dots = over_steps(
        move,
        call_dot.carry,
        (kept_dot, after_dots, carries, kept, call.mask, call.reset),
        call.reverse,
    )
    ys_dot = select(call.mask, add(y_dots, ys_dot), jnp.zeros_like(ys))
    return (last, ys), (_filled(last_dot, last), ys_dot)


def _keeping(step, weights, call, taken):
    """The loop, with the carry that enters each step and what else `gate` takes in."""

    def keep(carry, inputs):
        u, valid, begin = inputs
        carry = carry if begin is None else select(begin, call.start, carry)
        r = step.mix(weights, carry)
        after, y = step.gate(weights, carry, u, r)
        y = select(valid, y, jnp.zeros_like(y))
        return select(valid, after, carry), (y, carry, taken.of(u, r))

    per_step = call.inputs, call.mask, call.reset
    last, (ys, carries, kept) = over_steps(keep, call.carry, per_step, call.reverse)
    return last, ys, carries, kept


def _by_parameters_of_gate(gate, weights, weights_dot):
    """The tangents of all carries and ys by the parameters that `gate` itself reads.

    None for a leaf that depends on none of them: an LSTM's gate reads no parameter, and
    its loop back has nothing to leave behind for any.
    """
    depend = depends(gate, weights)
    if not any(jax.tree.leaves(depend)):
        return jax.tree.map(lambda _: None, depend)

    @jax.checkpoint
    def move(weights_dot):
        return _jvp(gate, (weights,), (weights_dot,))

    return jax.tree.map(lambda d, dot: dot if d else None, depend, move(weights_dot))


def depends(function, argument):
    """Which leaves of `function(argument)` depend on it: a tree of bools."""
    jaxpr, outputs = jax.make_jaxpr(function, return_shape=True)(argument)
    moved = set(jaxpr.jaxpr.invars)
    for equation in jaxpr.eqns:
        if any(v in moved for v in equation.invars if not isinstance(v, Literal)):
            moved.update(equation.outvars)
    depend = [not isinstance(v, Literal) and v in moved for v in jaxpr.jaxpr.outvars]
    return jax.tree.unflatten(jax.tree.structure(outputs), depend)


def _jvp(function, primals, tangents):
    """The tangent of the outputs, where None stands for that of a leaf without one."""
    _, outputs_dot = jax.jvp(function, primals, _filled(tangents, primals))
    return _differentiable(outputs_dot)


def _transpose(params):
    return jax.tree.map(lambda w: jnp.swapaxes(w, -1, -2) if w.ndim > 1 else w, params)


def _differentiable(tree):
    """None for the leaves that have no tangent: integers, and the bits of a noise."""
    return jax.tree.map(lambda dot: None if dot.dtype == jax.dtypes.float0 else dot, tree)


def _filled(tree, like):
    """The inverse of `_differentiable`."""

    def fill(dot, leaf):
        # Where the tree itself has None, there is nothing to fill.
        return dot if dot is not None or leaf is None else zero_from_primal(leaf)

    return jax.tree.map(fill, tree, like, is_leaf=lambda dot: dot is None)

"""Real-time recurrent learning (Williams & Zipser 1989): a gradient at every step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from .network import Network, NetworkParams


class Moment(NamedTuple):
    """Where a sequence has come to, N numbers of carry, and how it depends on the P
    parameters of the cell."""

    carry: Any
    slopes: Array  # [N, P]  d carry / d parameters


def beginning(network: Network, weights: NetworkParams) -> Moment:
    carry = network.cell.initial_carry(weights.cell)
    (state, _), (flat, _) = ravel_pytree(carry), ravel_pytree(weights.cell)
    return Moment(carry, jnp.zeros((state.size, flat.size), state.dtype))


def gradient(
    network: Network,
    weights: NetworkParams,
    moment: Moment,
    x: Array,
    loss: Callable[[Array], Array],
) -> tuple[NetworkParams, Moment, Array]:
    """The gradient of the loss of this step alone, the next moment and the outputs z.

    The chain rule forward in time: with s the carry and w the cell's parameters,

        ds'/dw = (partial s' / partial s) ds/dw + partial s' / partial w

    so nothing of the past is kept, and with weights that stay as they are the gradients of
    all steps add up to that of the sequence. Where the cell cuts its own gradient, as
    `LSTM1997(gradient="truncated")` does, these are the equations of its appendix A.1.
    """
    state, as_carry = ravel_pytree(moment.carry)
    flat, as_params = ravel_pytree(weights.cell)

    def of_step(weights: NetworkParams, state: Array) -> tuple[Array, tuple[Any, Array]]:
        carry, z = network.step(weights, as_carry(state), x)
        return loss(z), (carry, z)

    def advance(flat: Array, state: Array) -> Array:
        carry, _ = network.cell.step(as_params(flat), as_carry(state), x)
        return ravel_pytree(carry)[0]

    (direct, by_state), (carry, z) = jax.grad(of_step, (0, 1), has_aux=True)(weights, state)
    through_time = as_params(by_state @ moment.slopes)
    gradients = direct._replace(cell=jax.tree.map(jnp.add, direct.cell, through_time))
    by_flat, by_state = jax.jacrev(advance, (0, 1))(flat, state)
    return gradients, Moment(carry, by_state @ moment.slopes + by_flat), z

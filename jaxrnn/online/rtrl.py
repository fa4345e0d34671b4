"""Real-time recurrent learning."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.arrays import widen
from jaxrnn.cell import Recurrence
from jaxrnn.online.online import Online, flat_of


@dataclass(frozen=True)
class RTRL(Online):
    """Real-time recurrent learning, exact for any recurrence that steps (Williams & Zipser
    1989).

        J' = (d carry' / d carry) J + d carry' / d params         J = d carry / d params

    A composition is one recurrence: all of its carry, all of its params. J holds N M
    numbers a row, of N numbers of the carry and M params, and a step takes N^2 M
    multiplications: an LSTM of 32 units with 8 inputs has 64 x 5,248 numbers a row, one of
    256 units with 64 inputs 512 x 328,704, 673 MB.
    """

    recurrence: Recurrence

    def _seeds(self, flat: Array) -> Array:
        return jnp.eye(flat.size, dtype=flat.dtype).reshape(-1, *flat.shape)

    def _through(self, flat_bar: Array, influence: Array) -> Array:
        return jnp.tensordot(flat_bar, influence, 1)

    def _move(
        self, params: Any, carry: Any, influence: Any, x: Array
    ) -> tuple[Any, Any, Array]:
        after, y, pull = self._vjp(params, carry, x)
        seeds = self._seeds(flat_of(carry))
        direct, jacobian = jax.vmap(lambda seed: pull((seed, jnp.zeros_like(y))))(seeds)
        moved = jax.tree.map(
            lambda d, j: d + jnp.tensordot(jacobian, j, 1), widen(direct), influence
        )
        return after, moved, y

"""The simple recurrent network. Copy this file to write a cell of your own."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, zeros
from jaxrnn.cell import Cell, exportable
from jaxrnn.cells.activations import ACTIVATIONS, check_activation
from jaxrnn.cells.initial import lecun_normal, orthogonal


@exportable
class ElmanParams(NamedTuple):
    w_x: Array  # [D, H]
    w_h: Array  # [H, H]
    b: Array  # [H]


@exportable
class ElmanCarry(NamedTuple):
    h: Array  # [..., H]


@dataclass(frozen=True)
class Elman(Cell[ElmanParams, ElmanCarry]):
    """Simple recurrent network (Elman 1990).

        h' = tanh(x W_x + h W_h + b)                                           y = h'

    x `[..., D]`, h and y `[..., H]`, all in the dtype of the parameters. `activation`
    replaces tanh ("relu": Le et al. 2015). Raises ValueError for a size below 1 or an
    unknown activation.
    """

    input_size: int
    hidden_size: int
    activation: str = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activation(self.activation)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> ElmanParams:
        key_x, key_h = jax.random.split(key)
        return ElmanParams(
            w_x=lecun_normal(key_x, self.input_size, self.hidden_size, dtype),
            w_h=orthogonal(key_h, self.hidden_size, 1, dtype),
            b=jnp.zeros(self.hidden_size, dtype),
        )

    def initial_carry(
        self, params: ElmanParams, batch_shape: tuple[int, ...] = ()
    ) -> ElmanCarry:
        return ElmanCarry(zeros(params, batch_shape, self.hidden_size))

    @property
    def shares_units(self) -> bool:
        return True

    def project(self, params: ElmanParams, x: Array) -> Array:
        return x @ params.w_x

    def mix(self, params: ElmanParams, carry: ElmanCarry) -> Array:
        return carry.h @ params.w_h + across(params.b, carry.h)

    def gate(
        self, params: ElmanParams, carry: ElmanCarry, u: Array, r: Array
    ) -> tuple[ElmanCarry, Array]:
        h = ACTIVATIONS[self.activation](u + r)
        return ElmanCarry(h), h

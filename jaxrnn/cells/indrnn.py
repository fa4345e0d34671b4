"""The independently recurrent network."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, zeros
from jaxrnn.cell import Cell, exportable
from jaxrnn.cells.activations import ACTIVATIONS, check_activation
from jaxrnn.cells.initial import lecun_normal, uniform


@exportable
class IndRNNParams(NamedTuple):
    w_x: Array  # [D, H]
    w_h: Array  # [H]  each unit sees itself only
    b: Array  # [H]


@exportable
class IndRNNCarry(NamedTuple):
    h: Array  # [..., H]


@dataclass(frozen=True)
class IndRNN(Cell[IndRNNParams, IndRNNCarry]):
    """Independently recurrent network (Li et al. 2018).

        h' = relu(x W_x + w_h h + b)                                           y = h'

    x `[..., D]`, h and y `[..., H]`, all in the dtype of the parameters; w_h h is the
    product unit by unit. w_h starts uniform in [0, 1]; the paper also keeps |w_h| below
    2^(1/T) while it trains, which is the caller's to do. `activation` replaces relu.
    Raises ValueError for a size below 1 or an unknown activation.
    """

    input_size: int
    hidden_size: int
    activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activation(self.activation)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> IndRNNParams:
        key_x, key_h = jax.random.split(key)
        return IndRNNParams(
            w_x=lecun_normal(key_x, self.input_size, self.hidden_size, dtype),
            w_h=uniform(key_h, (self.hidden_size,), 0.0, 1.0, dtype),
            b=jnp.zeros(self.hidden_size, dtype),
        )

    def initial_carry(
        self, params: IndRNNParams, batch_shape: tuple[int, ...] = ()
    ) -> IndRNNCarry:
        return IndRNNCarry(zeros(params, batch_shape, self.hidden_size))

    def project(self, params: IndRNNParams, x: Array) -> Array:
        return x @ params.w_x + across(params.b, x)

    def mix(self, params: IndRNNParams, carry: IndRNNCarry) -> Array:
        return carry.h * across(params.w_h, carry.h)

    def gate(
        self, params: IndRNNParams, carry: IndRNNCarry, u: Array, r: Array
    ) -> tuple[IndRNNCarry, Array]:
        h = ACTIVATIONS[self.activation](u + r)
        return IndRNNCarry(h), h

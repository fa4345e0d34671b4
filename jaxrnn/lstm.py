"""Long short-term memory."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.activations import squash
from jaxrnn.cell import Cell, zeros
from jaxrnn.initial import lecun_normal, orthogonal


class LSTMParams(NamedTuple):
    w_x: Array  # [D, 4H]  gates side by side, in the order i, f, g, o
    w_h: Array  # [H, 4H]
    b: Array  # [4H]


class LSTMCarry(NamedTuple):
    h: Array  # [..., H]
    c: Array  # [..., H]


@dataclass(frozen=True)
class LSTM(Cell[LSTMParams, LSTMCarry]):
    """LSTM with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

        i, f, g, o = x W_x + h W_h + b
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(c')                                               y = h'

    x `[..., D]`, h, c and y `[..., H]`, all in the dtype of the parameters.
    `forget_bias` is what `init` writes into the forget gate's part of b (1:
    Jozefowicz et al. 2015). Raises ValueError for a size below 1.
    """

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> LSTMParams:
        key_x, key_h = jax.random.split(key)
        size = self.hidden_size
        return LSTMParams(
            w_x=lecun_normal(key_x, self.input_size, 4 * size, dtype),
            w_h=orthogonal(key_h, size, 4, dtype),
            b=jnp.zeros(4 * size, dtype).at[size : 2 * size].set(self.forget_bias),
        )

    def initial_carry(
        self, params: LSTMParams, batch_shape: tuple[int, ...] = ()
    ) -> LSTMCarry:
        start = zeros(params, batch_shape, self.hidden_size)
        return LSTMCarry(h=start, c=start)

    def project(self, params: LSTMParams, x: Array) -> Array:
        return x @ params.w_x

    def mix(self, params: LSTMParams, carry: LSTMCarry) -> Array:
        return carry.h @ params.w_h + params.b

    def gate(
        self, params: LSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        i, f, g, o = squash(u + r, "sigmoid", "sigmoid", "tanh", "sigmoid")
        c = f * carry.c + i * g
        h = o * jnp.tanh(c)
        return LSTMCarry(h, c), h

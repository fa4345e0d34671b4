"""Recurrent cells with layer normalisation."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, zeros
from jaxrnn.cell import Cell, exportable
from jaxrnn.cells.activations import squash
from jaxrnn.cells.gru import GRUCarry
from jaxrnn.cells.initial import lecun_normal, orthogonal
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.constants import check_number


def normalise(z: Array, epsilon: float) -> Array:
    """(z - mean) / sqrt(variance + epsilon) over the last axis, in float32 or wider."""
    wide = z.astype(jnp.float32) if jnp.finfo(z.dtype).bits < 32 else z
    centred = wide - wide.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + epsilon)).astype(z.dtype)


@exportable
class LayerNormLSTMParams(NamedTuple):
    w_x: Array  # [D, 4H]  gates side by side, in the order i, f, g, o
    w_h: Array  # [H, 4H]
    b: Array  # [4H]
    gain_x: Array  # [4H]
    gain_h: Array  # [4H]
    gain_c: Array  # [H]
    b_c: Array  # [H]


@dataclass(frozen=True)
class LayerNormLSTM(Cell[LayerNormLSTMParams, LSTMCarry]):
    """LSTM with layer normalisation (Ba et al. 2016).

        i, f, g, o = gain_x norm(x W_x) + gain_h norm(h W_h) + b
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(gain_c norm(c') + b_c)                            y = h'

        norm(z) = (z - mean(z)) / sqrt(variance(z) + epsilon)

    x `[..., D]`, h, c and y `[..., H]`, all in the dtype of the parameters; the
    statistics are at least float32. As in the paper, norm takes all four gates together.
    Its two shifts after the products add to b and are left out. `forget_bias` is what
    `init` writes into the forget gate's part of b. Raises ValueError for a size below 1.
    """

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "forget_bias")
        check_number(self, "epsilon", above=0)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> LayerNormLSTMParams:
        key_x, key_h = jax.random.split(key)
        size = self.hidden_size
        return LayerNormLSTMParams(
            w_x=lecun_normal(key_x, self.input_size, 4 * size, dtype),
            w_h=orthogonal(key_h, size, 4, dtype),
            b=jnp.zeros(4 * size, dtype).at[size : 2 * size].set(self.forget_bias),
            gain_x=jnp.ones(4 * size, dtype),
            gain_h=jnp.ones(4 * size, dtype),
            gain_c=jnp.ones(size, dtype),
            b_c=jnp.zeros(size, dtype),
        )

    def initial_carry(
        self, params: LayerNormLSTMParams, batch_shape: tuple[int, ...] = ()
    ) -> LSTMCarry:
        return LSTMCarry(
            h=zeros(params, batch_shape, self.hidden_size),
            c=zeros(params, batch_shape, self.hidden_size),
        )

    def project(self, params: LayerNormLSTMParams, x: Array) -> Array:
        normed = normalise(x @ params.w_x, self.epsilon)
        return across(params.gain_x, x) * normed + across(params.b, x)

    def mix(self, params: LayerNormLSTMParams, carry: LSTMCarry) -> Array:
        return carry.h @ params.w_h

    def gate(
        self, params: LayerNormLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        z = u + across(params.gain_h, r) * normalise(r, self.epsilon)
        i, f, g, o = squash(z, "sigmoid", "sigmoid", "tanh", "sigmoid")
        c = f * carry.c + i * g
        normed = normalise(c, self.epsilon)
        h = o * jnp.tanh(across(params.gain_c, c) * normed + across(params.b_c, c))
        return LSTMCarry(h, c), h

    def gates(
        self, params: LayerNormLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        z = u + across(params.gain_h, r) * normalise(r, self.epsilon)
        i, f, _, o = squash(z, "sigmoid", "sigmoid", "tanh", "sigmoid")
        return {"input": i, "forget": f, "output": o}


@exportable
class LayerNormGRUParams(NamedTuple):
    w_x: Array  # [D, 3H]  gates side by side, in the order r, z, n
    w_h: Array  # [H, 3H]
    b: Array  # [3H]
    b_n: Array  # [H]  the candidate's second bias, inside the reset product
    gain_x: Array  # [3H]
    gain_h: Array  # [3H]


@dataclass(frozen=True)
class LayerNormGRU(Cell[LayerNormGRUParams, GRUCarry]):
    """GRU with layer normalisation, reset after the product (Ba et al. 2016).

        r, z = sigmoid(gain_x norm(x W_x) + gain_h norm(h W_h) + b)
        n = tanh(gain_xn norm(x W_xn) + b_xn + r (gain_hn norm(h W_hn) + b_n))
        h' = (1 - z) n + z h                                                   y = h'

        norm(z) = (z - mean(z)) / sqrt(variance(z) + epsilon)

    x `[..., D]`, h and y `[..., H]`, all in the dtype of the parameters; the statistics
    are at least float32. As in the paper, norm takes r and z together and n by itself;
    the paper's z is 1 - z here, as in `GRU`. Of its shifts after the products, those
    that add up are one: b. Raises ValueError for a size below 1.
    """

    input_size: int
    hidden_size: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "epsilon", above=0)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> LayerNormGRUParams:
        key_x, key_h = jax.random.split(key)
        size = self.hidden_size
        return LayerNormGRUParams(
            w_x=lecun_normal(key_x, self.input_size, 3 * size, dtype),
            w_h=orthogonal(key_h, size, 3, dtype),
            b=jnp.zeros(3 * size, dtype),
            b_n=jnp.zeros(size, dtype),
            gain_x=jnp.ones(3 * size, dtype),
            gain_h=jnp.ones(3 * size, dtype),
        )

    def initial_carry(
        self, params: LayerNormGRUParams, batch_shape: tuple[int, ...] = ()
    ) -> GRUCarry:
        return GRUCarry(zeros(params, batch_shape, self.hidden_size))

    def project(self, params: LayerNormGRUParams, x: Array) -> Array:
        normed = self._normalise(x @ params.w_x)
        return across(params.gain_x, x) * normed + across(params.b, x)

    def mix(self, params: LayerNormGRUParams, carry: GRUCarry) -> Array:
        return carry.h @ params.w_h

    def gate(
        self, params: LayerNormGRUParams, carry: GRUCarry, u: Array, r: Array
    ) -> tuple[GRUCarry, Array]:
        gates = 2 * self.hidden_size
        r = across(params.gain_h, r) * self._normalise(r)
        reset, z = squash(u[..., :gates] + r[..., :gates], "sigmoid", "sigmoid")
        n = jnp.tanh(u[..., gates:] + reset * (r[..., gates:] + across(params.b_n, r)))
        h = (1 - z) * n + z * carry.h
        return GRUCarry(h), h

    def _normalise(self, z: Array) -> Array:
        gates, candidate = jnp.split(z, [2 * self.hidden_size], axis=-1)
        return jnp.concatenate(
            [normalise(gates, self.epsilon), normalise(candidate, self.epsilon)], axis=-1
        )

    def gates(
        self, params: LayerNormGRUParams, carry: GRUCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        gates = 2 * self.hidden_size
        r = across(params.gain_h, r) * self._normalise(r)
        reset, z = squash(u[..., :gates] + r[..., :gates], "sigmoid", "sigmoid")
        return {"reset": reset, "forget": z}

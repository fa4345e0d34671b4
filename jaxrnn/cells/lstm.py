"""Long short-term memory: the common cell, with peepholes, with coupled gates."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Cell, across, exportable, zeros
from jaxrnn.cells.activations import ACTIVATIONS, check_activation, sigmoid, squash
from jaxrnn.cells.initial import lecun_normal, orthogonal
from jaxrnn.constants import check_number


@exportable
class LSTMParams(NamedTuple):
    w_x: Array  # [D, 4H]  gates side by side, in the order i, f, g, o
    w_h: Array  # [H, 4H]
    b: Array  # [4H]


@exportable
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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "forget_bias")

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
        return LSTMCarry(
            h=zeros(params, batch_shape, self.hidden_size),
            c=zeros(params, batch_shape, self.hidden_size),
        )

    @property
    def shares_units(self) -> bool:
        return True

    def project(self, params: LSTMParams, x: Array) -> Array:
        return x @ params.w_x

    def mix(self, params: LSTMParams, carry: LSTMCarry) -> Array:
        return carry.h @ params.w_h + across(params.b, carry.h)

    def gate(
        self, params: LSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        i, f, g, o = squash(u + r, "sigmoid", "sigmoid", "tanh", "sigmoid")
        c = f * carry.c + i * g
        h = o * jnp.tanh(c)
        return LSTMCarry(h, c), h

    def gates(
        self, params: LSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        i, f, _, o = squash(u + r, "sigmoid", "sigmoid", "tanh", "sigmoid")
        return {"input": i, "forget": f, "output": o}


@exportable
class PeepholeLSTMParams(NamedTuple):
    w_x: Array  # [D, 4H]  gates side by side, in the order i, f, g, o
    w_h: Array  # [H, 4H]
    w_c: Array  # [3H]  the peepholes: from each cell to its own i, f, o
    b: Array  # [4H]


@dataclass(frozen=True)
class PeepholeLSTM(Cell[PeepholeLSTMParams, LSTMCarry]):
    """LSTM whose gates look into the cell (Gers & Schmidhuber 2000).

        i, f, g, o = x W_x + h W_h + b
        c' = sigmoid(f + w_cf c) c + sigmoid(i + w_ci c) tanh(g)
        h' = sigmoid(o + w_co c') tanh(c')                                     y = h'

    x `[..., D]`, h, c and y `[..., H]`, all in the dtype of the parameters. The output
    gate sees the new cell. The peepholes w_ci, w_cf, w_co `[H]` lie side by side in w_c
    and start at zero. `forget_bias` is what `init` writes into the forget gate's part of
    b; `output_activation` replaces the tanh of c' ("identity" leaves it out). Raises
    ValueError for a size below 1 or an unknown activation.
    """

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0
    output_activation: str = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "forget_bias")
        check_activation(self.output_activation)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> PeepholeLSTMParams:
        key_x, key_h = jax.random.split(key)
        size = self.hidden_size
        return PeepholeLSTMParams(
            w_x=lecun_normal(key_x, self.input_size, 4 * size, dtype),
            w_h=orthogonal(key_h, size, 4, dtype),
            w_c=jnp.zeros(3 * size, dtype),
            b=jnp.zeros(4 * size, dtype).at[size : 2 * size].set(self.forget_bias),
        )

    def initial_carry(
        self, params: PeepholeLSTMParams, batch_shape: tuple[int, ...] = ()
    ) -> LSTMCarry:
        return LSTMCarry(
            h=zeros(params, batch_shape, self.hidden_size),
            c=zeros(params, batch_shape, self.hidden_size),
        )

    @property
    def shares_units(self) -> bool:
        return True

    def project(self, params: PeepholeLSTMParams, x: Array) -> Array:
        return x @ params.w_x

    def mix(self, params: PeepholeLSTMParams, carry: LSTMCarry) -> Array:
        return carry.h @ params.w_h + across(params.b, carry.h)

    def gate(
        self, params: PeepholeLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        size = self.hidden_size
        z_if, z_g, z_o = jnp.split(u + r, [2 * size, 3 * size], axis=-1)
        w_if, w_o = jnp.split(across(params.w_c, u), [2 * size], axis=-1)
        seen = jnp.concatenate([carry.c, carry.c], axis=-1)
        i, f = squash(z_if + w_if * seen, "sigmoid", "sigmoid")
        c = f * carry.c + i * jnp.tanh(z_g)
        h = sigmoid(z_o + w_o * c) * ACTIVATIONS[self.output_activation](c)
        return LSTMCarry(h, c), h

    def gates(
        self, params: PeepholeLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        after, _ = self.gate(params, carry, u, r)
        z_i, z_f, _, z_o = jnp.split(u + r, 4, axis=-1)
        w_i, w_f, w_o = jnp.split(across(params.w_c, u), 3, axis=-1)
        return {
            "input": sigmoid(z_i + w_i * carry.c),
            "forget": sigmoid(z_f + w_f * carry.c),
            "output": sigmoid(z_o + w_o * after.c),
        }


@exportable
class CoupledLSTMParams(NamedTuple):
    w_x: Array  # [D, 3H]  gates side by side, in the order i, g, o
    w_h: Array  # [H, 3H]
    b: Array  # [3H]


@dataclass(frozen=True)
class CoupledLSTM(Cell[CoupledLSTMParams, LSTMCarry]):
    """LSTM that forgets as much as it takes in (CIFG: Greff et al. 2017).

        i, g, o = x W_x + h W_h + b
        c' = (1 - sigmoid(i)) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(c')                                               y = h'

    x `[..., D]`, h, c and y `[..., H]`, all in the dtype of the parameters. Without
    peepholes, which Greff et al. add. The forget gate is 1 - sigmoid(i) = sigmoid(-i), so
    `init` writes minus `forget_bias` into the input gate's part of b. Raises ValueError
    for a size below 1.
    """

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "forget_bias")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> CoupledLSTMParams:
        key_x, key_h = jax.random.split(key)
        size = self.hidden_size
        return CoupledLSTMParams(
            w_x=lecun_normal(key_x, self.input_size, 3 * size, dtype),
            w_h=orthogonal(key_h, size, 3, dtype),
            b=jnp.zeros(3 * size, dtype).at[:size].set(-self.forget_bias),
        )

    def initial_carry(
        self, params: CoupledLSTMParams, batch_shape: tuple[int, ...] = ()
    ) -> LSTMCarry:
        return LSTMCarry(
            h=zeros(params, batch_shape, self.hidden_size),
            c=zeros(params, batch_shape, self.hidden_size),
        )

    @property
    def shares_units(self) -> bool:
        return True

    def project(self, params: CoupledLSTMParams, x: Array) -> Array:
        return x @ params.w_x

    def mix(self, params: CoupledLSTMParams, carry: LSTMCarry) -> Array:
        return carry.h @ params.w_h + across(params.b, carry.h)

    def gate(
        self, params: CoupledLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        i, g, o = squash(u + r, "sigmoid", "tanh", "sigmoid")
        c = (1 - i) * carry.c + i * g
        h = o * jnp.tanh(c)
        return LSTMCarry(h, c), h

    def gates(
        self, params: CoupledLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        i, _, o = squash(u + r, "sigmoid", "tanh", "sigmoid")
        return {"input": i, "forget": 1 - i, "output": o}

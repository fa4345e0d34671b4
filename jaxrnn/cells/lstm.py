"""Long short-term memory: the common cell, and with coupled gates."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, zeros
from jaxrnn.cell import Params, exportable
from jaxrnn.cells.activations import clip
from jaxrnn.cells.gated import GatedCell
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


class LSTMCell(GatedCell[Params, LSTMCarry]):
    """What the gated LSTMs have in common: the carry, and one product each of x and h.

    A subclass is a frozen dataclass with a field `forget_bias`; its params have w_x, w_h
    and b.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "forget_bias")

    def initial_carry(self, params: Params, batch_shape: tuple[int, ...] = ()) -> LSTMCarry:
        return LSTMCarry(
            h=zeros(params, batch_shape, self.output_size),
            c=zeros(params, batch_shape, self.hidden_size),
        )

    @property
    def shares_units(self) -> bool:
        return True

    def project(self, params: Any, x: Array) -> Array:
        return x @ params.w_x

    def mix(self, params: Any, carry: LSTMCarry) -> Array:
        return carry.h @ params.w_h + across(params.b, carry.h)


@dataclass(frozen=True, repr=False)
class LSTM(LSTMCell[LSTMParams]):
    """LSTM with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

        i, f, g, o = x W_x + h W_h + b
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(c')                                               y = h'

    x `[..., D]`, h, c and y `[..., H]`, all in the dtype of the parameters.
    `forget_bias` is what `init` writes into the forget gate's part of b (1:
    Jozefowicz et al. 2015). `gate_activation` replaces sigmoid, `candidate_activation` and
    `output_activation` the tanh of g and of c'; c' is held to [-cell_clip, cell_clip], and
    what enters any activation to [-activation_clip, activation_clip]. Raises ValueError for
    a size below 1, an unknown activation or a bound of 0 or less.
    """

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0
    _: KW_ONLY
    output_activation: str = "tanh"
    cell_clip: float | None = None

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> LSTMParams:
        key_x, key_h = jax.random.split(key)
        size = self.hidden_size
        return LSTMParams(
            w_x=lecun_normal(key_x, self.input_size, 4 * size, dtype),
            w_h=orthogonal(key_h, size, 4, dtype),
            b=jnp.zeros(4 * size, dtype).at[size : 2 * size].set(self.forget_bias),
        )

    def gate(
        self, params: LSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        i, f, g, o = self.activate(u + r, "gate", "gate", "candidate", "gate")
        c = clip(f * carry.c + i * g, self.cell_clip)
        (shown,) = self.activate(c, "output")
        h = o * shown
        return LSTMCarry(h, c), h

    def gates(
        self, params: LSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        i, f, _, o = self.activate(u + r, "gate", "gate", "candidate", "gate")
        return {"input": i, "forget": f, "output": o}


@exportable
class CoupledLSTMParams(NamedTuple):
    w_x: Array  # [D, 3H]  gates side by side, in the order i, g, o
    w_h: Array  # [H, 3H]
    b: Array  # [3H]


@dataclass(frozen=True, repr=False)
class CoupledLSTM(LSTMCell[CoupledLSTMParams]):
    """LSTM that forgets as much as it takes in (CIFG: Greff et al. 2017).

        i, g, o = x W_x + h W_h + b
        c' = (1 - sigmoid(i)) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(c')                                               y = h'

    x `[..., D]`, h, c and y `[..., H]`, all in the dtype of the parameters. Without
    peepholes, which Greff et al. add: `CoupledPeepholeLSTM`. The forget gate is
    1 - sigmoid(i) = sigmoid(-i), so `init` writes minus `forget_bias` into the input
    gate's part of b. Activations and bounds are those of `LSTM`. Raises ValueError for a
    size below 1, an unknown activation or a bound of 0 or less.
    """

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0
    _: KW_ONLY
    output_activation: str = "tanh"
    cell_clip: float | None = None

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> CoupledLSTMParams:
        key_x, key_h = jax.random.split(key)
        size = self.hidden_size
        return CoupledLSTMParams(
            w_x=lecun_normal(key_x, self.input_size, 3 * size, dtype),
            w_h=orthogonal(key_h, size, 3, dtype),
            b=jnp.zeros(3 * size, dtype).at[:size].set(-self.forget_bias),
        )

    def gate(
        self, params: CoupledLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        i, g, o = self.activate(u + r, "gate", "candidate", "gate")
        c = clip((1 - i) * carry.c + i * g, self.cell_clip)
        (shown,) = self.activate(c, "output")
        h = o * shown
        return LSTMCarry(h, c), h

    def gates(
        self, params: CoupledLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        i, _, o = self.activate(u + r, "gate", "candidate", "gate")
        return {"input": i, "forget": 1 - i, "output": o}

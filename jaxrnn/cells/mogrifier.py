"""An LSTM whose input and hidden state scale one another before each step."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, zeros
from jaxrnn.cell import Cell, exportable
from jaxrnn.cells.activations import sigmoid, squash
from jaxrnn.cells.initial import lecun_normal, orthogonal
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.constants import check_number, check_size

# A matrix `[N, M]`, or two that multiply to it, `[N, rank]` and `[rank, M]`.
Factors = tuple[Array, ...]


@exportable
class MogrifierLSTMParams(NamedTuple):
    w_x: Array  # [D, 4H]  gates side by side, in the order i, f, g, o
    w_h: Array  # [H, 4H]
    b: Array  # [4H]
    to_x: tuple[Factors, ...]  # [H, D] each: of the odd rounds, the paper's Q
    to_h: tuple[Factors, ...]  # [D, H] each: of the even rounds, the paper's R


@dataclass(frozen=True)
class MogrifierLSTM(Cell[MogrifierLSTMParams, LSTMCarry]):
    """LSTM whose input and hidden state scale one another first (Melis et al. 2020).

        x <- 2 sigmoid(h Q_n) x      in the rounds n = 1, 3, ...
        h <- 2 sigmoid(x R_n) h      in the rounds n = 2, 4, ...
        then as `LSTM`, from this x and this h                                 y = h'

    x `[..., D]`, h, c and y `[..., H]`, all in the dtype of the parameters. `rank` makes
    each Q and R a product of two matrices, `[., rank]` and `[rank, .]`; None leaves them
    whole. `forget_bias` is what `init` writes into the forget gate's part of b. Each
    product of a step waits for the one before, so it does not split into mix and gate.
    Raises ValueError for a size below 1.
    """

    input_size: int
    hidden_size: int
    rounds: int = 5
    rank: int | None = None
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self, "rounds")
        if self.rank is not None:
            check_size(self, "rank")
        check_number(self, "forget_bias")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> MogrifierLSTMParams:
        key_x, key_h, *keys = jax.random.split(key, 2 + self.rounds)
        inputs, size = self.input_size, self.hidden_size
        return MogrifierLSTMParams(
            w_x=lecun_normal(key_x, inputs, 4 * size, dtype),
            w_h=orthogonal(key_h, size, 4, dtype),
            b=jnp.zeros(4 * size, dtype).at[size : 2 * size].set(self.forget_bias),
            to_x=tuple(self._factors(k, size, inputs, dtype) for k in keys[::2]),
            to_h=tuple(self._factors(k, inputs, size, dtype) for k in keys[1::2]),
        )

    def initial_carry(
        self, params: MogrifierLSTMParams, batch_shape: tuple[int, ...] = ()
    ) -> LSTMCarry:
        return LSTMCarry(
            h=zeros(params, batch_shape, self.hidden_size),
            c=zeros(params, batch_shape, self.hidden_size),
        )

    def project(self, params: MogrifierLSTMParams, x: Array) -> Array:
        return x

    def recur(
        self, params: MogrifierLSTMParams, carry: LSTMCarry, u: Array
    ) -> tuple[LSTMCarry, Array]:
        i, f, g, o = self._squashed(params, carry, u)
        c = f * carry.c + i * g
        h = o * jnp.tanh(c)
        return LSTMCarry(h, c), h

    def gates(
        self, params: MogrifierLSTMParams, carry: LSTMCarry, u: Array, r: None
    ) -> dict[str, Array]:
        i, f, _, o = self._squashed(params, carry, u)
        return {"input": i, "forget": f, "output": o}

    def _squashed(
        self, params: MogrifierLSTMParams, carry: LSTMCarry, x: Array
    ) -> tuple[Array, ...]:
        h = carry.h
        for number in range(self.rounds):
            if number % 2 == 0:
                x = _scaled(x, h, params.to_x[number // 2])
            else:
                h = _scaled(h, x, params.to_h[number // 2])
        z = x @ params.w_x + h @ params.w_h + across(params.b, h)
        return squash(z, "sigmoid", "sigmoid", "tanh", "sigmoid")

    def _factors(self, key: Array, rows: int, columns: int, dtype: DTypeLike) -> Factors:
        if self.rank is None:
            return (lecun_normal(key, rows, columns, dtype),)
        key, key_out = jax.random.split(key)
        return (
            lecun_normal(key, rows, self.rank, dtype),
            lecun_normal(key_out, self.rank, columns, dtype),
        )


def _scaled(scaled: Array, by: Array, factors: Factors) -> Array:
    for w in factors:
        by = by @ w
    return 2 * sigmoid(by) * scaled

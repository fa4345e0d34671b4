"""Minimal gated recurrences, whose gates do not look back (Feng et al. 2024)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, widen
from jaxrnn.cell import exportable
from jaxrnn.cells.initial import lecun_normal
from jaxrnn.constants import check_number
from jaxrnn.linear import Affine, RealLinearCell


def positive(x: Array) -> Array:
    """x + 1/2 where x >= 0, else sigmoid(x): continuous, and never negative."""
    return jnp.where(x >= 0, x + 0.5, jax.nn.sigmoid(x))


@exportable
class MinGRUParams(NamedTuple):
    w_x: Array  # [D, 2H]  side by side, in the order z, n
    b: Array  # [2H]


@dataclass(frozen=True)
class MinGRU(RealLinearCell[MinGRUParams]):
    """Minimal gated recurrent unit, in its log-space form (Feng et al. 2024).

        z = sigmoid(x W_z + b_z)
        n = g(x W_n + b_n)         g(a) = a + 1/2 where a >= 0, else sigmoid(a)
        h' = (1 - z) h + z n                                                   y = h'

    x `[..., D]`, h and y `[..., H]`, all in the dtype of the parameters. The paper's g
    keeps h positive so that its scan can run on logarithms, where sums of logarithms
    replace the long products of 1 - z. Composed pair by pair those products only shrink,
    and sums of positive numbers do not cancel, so here the scan runs on h itself and
    loses nothing; h starts at zero, the one value of it without a logarithm. Raises
    ValueError for a size below 1.
    """

    input_size: int
    hidden_size: int

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> MinGRUParams:
        return MinGRUParams(
            w_x=lecun_normal(key, self.input_size, 2 * self.hidden_size, dtype),
            b=jnp.zeros(2 * self.hidden_size, dtype),
        )

    def project(self, params: MinGRUParams, x: Array) -> Affine:
        z, n = jnp.split(widen(x @ params.w_x + across(params.b, x)), 2, axis=-1)
        # sigmoid(-z), not 1 - sigmoid(z), which rounds a small 1 - z away.
        return Affine(a=jax.nn.sigmoid(-z), b=jax.nn.sigmoid(z) * positive(n))


@exportable
class MinLSTMParams(NamedTuple):
    w_x: Array  # [D, 3H]  side by side, in the order i, f, n
    b: Array  # [3H]


@dataclass(frozen=True)
class MinLSTM(RealLinearCell[MinLSTMParams]):
    """Minimal LSTM with normalised gates, in its log-space form (Feng et al. 2024).

        i = sigmoid(x W_i + b_i)
        f = sigmoid(x W_f + b_f)
        n = g(x W_n + b_n)         g(a) = a + 1/2 where a >= 0, else sigmoid(a)
        h' = f / (f + i) h + i / (f + i) n                                     y = h'

    x `[..., D]`, h and y `[..., H]`, all in the dtype of the parameters. The quotients
    come from log f - log i, so that two closed gates do not divide zero by zero; the scan
    runs on h itself (see `MinGRU`). `forget_bias` is what `init` writes into the forget
    gate's part of b. Raises ValueError for a size below 1.
    """

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "forget_bias")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> MinLSTMParams:
        size = self.hidden_size
        return MinLSTMParams(
            w_x=lecun_normal(key, self.input_size, 3 * size, dtype),
            b=jnp.zeros(3 * size, dtype).at[size : 2 * size].set(self.forget_bias),
        )

    def project(self, params: MinLSTMParams, x: Array) -> Affine:
        i, f, n = jnp.split(widen(x @ params.w_x + across(params.b, x)), 3, axis=-1)
        keep = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
        return Affine(a=jax.nn.sigmoid(keep), b=jax.nn.sigmoid(-keep) * positive(n))

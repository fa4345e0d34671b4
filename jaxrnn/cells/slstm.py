"""xLSTM's scalar memory."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, zeros
from jaxrnn.cell import Cell, exportable
from jaxrnn.cells.activations import sigmoid, squash
from jaxrnn.cells.initial import lecun_normal, orthogonal
from jaxrnn.constants import check_number, check_size


@exportable
class SLSTMParams(NamedTuple):
    w_x: Array  # [D, 4H]  gates side by side, in the order i, f, g, o
    w_h: Array  # [N, H/N, 4H/N]  one block a head, its gates in the same order
    b: Array  # [4H]


@exportable
class SLSTMCarry(NamedTuple):
    h: Array  # [..., H]
    c: Array  # [..., H]  the cell, in units of exp(m)
    n: Array  # [..., H]  the normaliser, in units of exp(m)
    m: Array  # [..., H]  the stabiliser


@dataclass(frozen=True)
class SLSTM(Cell[SLSTMParams, SLSTMCarry]):
    """LSTM with exponential gates and a normaliser (sLSTM: Beck et al. 2024).

        i, f, g, o = x W_x + h W_h + b
        C' = sigmoid(f) C + exp(i) tanh(g)
        N' = sigmoid(f) N + exp(i)
        h' = sigmoid(o) C' / N'                                                y = h'

    x `[..., D]`, h and y `[..., H]`, all in the dtype of the parameters. W_h connects
    only units of the same of `heads` groups. The carry holds C and N as c = C exp(-m)
    and n = N exp(-m), so that no exponential overflows:

        m' = max(log sigmoid(f) + m, i)

    The carry must come from `initial_carry` or from a step: n is zero before the first
    step and at least 1 after it. `forget="exponential"` has exp(f) in place of
    sigmoid(f). `forget_bias` is what `init` writes into the forget gate's part of b.
    Raises ValueError for a size below 1, heads that do not divide `hidden_size`, or an
    unknown `forget`.
    """

    input_size: int
    hidden_size: int
    heads: int = 1
    forget: Literal["sigmoid", "exponential"] = "sigmoid"
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self, "heads")
        check_number(self, "forget_bias")
        if self.hidden_size % self.heads:
            raise ValueError(
                f"SLSTM needs heads that divide hidden_size {self.hidden_size}, got "
                f"{self.heads}"
            )
        if self.forget not in ("sigmoid", "exponential"):
            raise ValueError(
                f'SLSTM needs forget of "sigmoid" or "exponential", got {self.forget!r}'
            )

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> SLSTMParams:
        key_x, key_h = jax.random.split(key)
        size, head_size = self.hidden_size, self.hidden_size // self.heads
        heads = [
            orthogonal(key, head_size, 4, dtype)
            for key in jax.random.split(key_h, self.heads)
        ]
        return SLSTMParams(
            w_x=lecun_normal(key_x, self.input_size, 4 * size, dtype),
            w_h=jnp.stack(heads),
            b=jnp.zeros(4 * size, dtype).at[size : 2 * size].set(self.forget_bias),
        )

    def initial_carry(
        self, params: SLSTMParams, batch_shape: tuple[int, ...] = ()
    ) -> SLSTMCarry:
        return SLSTMCarry(
            *(zeros(params, batch_shape, self.hidden_size) for _ in SLSTMCarry._fields)
        )

    def project(self, params: SLSTMParams, x: Array) -> Array:
        return x @ params.w_x

    def mix(self, params: SLSTMParams, carry: SLSTMCarry) -> Array:
        heads, head_size, _ = params.w_h.shape
        batch_shape = carry.h.shape[:-1]
        h = carry.h.reshape(*batch_shape, heads, head_size)
        r = jnp.einsum("...nd,ndk->...nk", h, params.w_h)
        # From a head's gates side by side to a gate's heads side by side.
        r = jnp.swapaxes(r.reshape(*batch_shape, heads, 4, head_size), -3, -2)
        return r.reshape(*batch_shape, 4 * self.hidden_size) + across(params.b, carry.h)

    def gate(
        self, params: SLSTMParams, carry: SLSTMCarry, u: Array, r: Array
    ) -> tuple[SLSTMCarry, Array]:
        size = self.hidden_size
        i, f, z_go = jnp.split(u + r, [size, 2 * size], axis=-1)
        g, o = squash(z_go, "tanh", "sigmoid")
        log_f = jax.nn.log_sigmoid(f) if self.forget == "sigmoid" else f
        # An empty memory does not bound m: whatever comes first sets the unit.
        kept = jnp.where(carry.n == 0, -jnp.inf, log_f + carry.m)
        m = jnp.maximum(kept, i)
        keep, write = jnp.exp(kept - m), jnp.exp(i - m)
        c = keep * carry.c + write * g
        n = keep * carry.n + write
        h = o * c / n
        return SLSTMCarry(h, c, n, m), h

    def gates(
        self, params: SLSTMParams, carry: SLSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        """Of the memory c / n, the weighted mean of all that was written: the weights of
        what it was and of what is new, which sum to 1 unless it was empty."""
        after, _ = self.gate(params, carry, u, r)
        log_i = (u + r)[..., : self.hidden_size]
        write = jnp.exp(log_i - after.m) / after.n
        keep = jnp.where(carry.n == 0, jnp.ones_like(write), 1 - write)
        o = sigmoid((u + r)[..., 3 * self.hidden_size :])
        return {"input": write, "forget": keep, "output": o}

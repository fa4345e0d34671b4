"""Gated recurrent units."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, by_itself, zeros
from jaxrnn.cell import Cell, exportable
from jaxrnn.cells.activations import sigmoid
from jaxrnn.cells.gated import GatedCell
from jaxrnn.cells.initial import lecun_normal, orthogonal


@exportable
class GRUParams(NamedTuple):
    w_x: Array  # [D, 3H]  gates side by side, in the order r, z, n
    w_h: Array  # [H, 3H]
    b: Array  # [3H]
    b_n: Array  # [H]  the candidate's second bias, inside the reset product


@exportable
class GRUCarry(NamedTuple):
    h: Array  # [..., H]


@dataclass(frozen=True, repr=False)
class GRU(GatedCell[GRUParams, GRUCarry]):
    """Gated recurrent unit, reset after the product (as in cuDNN and PyTorch).

        r = sigmoid(x W_xr + h W_hr + b_r)
        z = sigmoid(x W_xz + h W_hz + b_z)
        n = tanh(x W_xn + b_xn + r (h W_hn + b_n))
        h' = (1 - z) n + z h                                                   y = h'

    x `[..., D]`, h and y `[..., H]`, all in the dtype of the parameters; b holds b_r,
    b_z and b_xn. Cho et al. 2014 reset before the product: that is `ResetBeforeGRU`.
    `gate_activation` replaces sigmoid and `candidate_activation` tanh; what enters either
    is held to [-activation_clip, activation_clip]. Raises ValueError for a size below 1, an
    unknown activation or a bound of 0 or less.
    """

    input_size: int
    hidden_size: int

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> GRUParams:
        key_x, key_h = jax.random.split(key)
        size = self.hidden_size
        return GRUParams(
            w_x=lecun_normal(key_x, self.input_size, 3 * size, dtype),
            w_h=orthogonal(key_h, size, 3, dtype),
            b=jnp.zeros(3 * size, dtype),
            b_n=jnp.zeros(size, dtype),
        )

    def initial_carry(
        self, params: GRUParams, batch_shape: tuple[int, ...] = ()
    ) -> GRUCarry:
        return GRUCarry(zeros(params, batch_shape, self.hidden_size))

    @property
    def shares_units(self) -> bool:
        return True

    def project(self, params: GRUParams, x: Array) -> Array:
        return x @ params.w_x + across(params.b, x)

    def mix(self, params: GRUParams, carry: GRUCarry) -> Array:
        b = jnp.pad(params.b_n, (2 * self.hidden_size, 0))
        return carry.h @ params.w_h + across(b, carry.h)

    def gate(
        self, params: GRUParams, carry: GRUCarry, u: Array, r: Array
    ) -> tuple[GRUCarry, Array]:
        gates = 2 * self.hidden_size
        z = u[..., :gates] + r[..., :gates]
        reset, z = by_itself(self.activate(z, "gate", "gate"))
        (n,) = self.activate(u[..., gates:] + reset * r[..., gates:], "candidate")
        h = (1 - z) * n + z * carry.h
        return GRUCarry(h), h

    def gates(
        self, params: GRUParams, carry: GRUCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        gates = 2 * self.hidden_size
        reset, z = self.activate(u[..., :gates] + r[..., :gates], "gate", "gate")
        return {"reset": reset, "forget": z}


@exportable
class ResetBeforeGRUParams(NamedTuple):
    w_x: Array  # [D, 3H]  gates side by side, in the order r, z, n
    w_h: Array  # [H, 3H]
    b: Array  # [3H]


@dataclass(frozen=True, repr=False)
class ResetBeforeGRU(GatedCell[ResetBeforeGRUParams, GRUCarry]):
    """Gated recurrent unit, reset before the product (Cho et al. 2014; Chung et al. 2014).

        r = sigmoid(x W_xr + h W_hr + b_r)
        z = sigmoid(x W_xz + h W_hz + b_z)
        n = tanh(x W_xn + (r h) W_hn + b_n)
        h' = (1 - z) n + z h                                                   y = h'

    x `[..., D]`, h and y `[..., H]`, all in the dtype of the parameters. Two products
    follow one another in a step, so the `fused` strategy does not serve it.
    Activations and their bound are those of `GRU`. Raises ValueError for a size below 1, an
    unknown activation or a bound of 0 or less.
    """

    input_size: int
    hidden_size: int

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> ResetBeforeGRUParams:
        key_x, key_h = jax.random.split(key)
        size = self.hidden_size
        return ResetBeforeGRUParams(
            w_x=lecun_normal(key_x, self.input_size, 3 * size, dtype),
            w_h=orthogonal(key_h, size, 3, dtype),
            b=jnp.zeros(3 * size, dtype),
        )

    def initial_carry(
        self, params: ResetBeforeGRUParams, batch_shape: tuple[int, ...] = ()
    ) -> GRUCarry:
        return GRUCarry(zeros(params, batch_shape, self.hidden_size))

    def project(self, params: ResetBeforeGRUParams, x: Array) -> Array:
        return x @ params.w_x + across(params.b, x)

    def recur(
        self, params: ResetBeforeGRUParams, carry: GRUCarry, u: Array
    ) -> tuple[GRUCarry, Array]:
        gates = 2 * self.hidden_size
        w_gates, w_n = params.w_h[:, :gates], params.w_h[:, gates:]
        reset, z = self.activate(u[..., :gates] + carry.h @ w_gates, "gate", "gate")
        (n,) = self.activate(u[..., gates:] + (reset * carry.h) @ w_n, "candidate")
        h = (1 - z) * n + z * carry.h
        return GRUCarry(h), h

    def gates(
        self, params: ResetBeforeGRUParams, carry: GRUCarry, u: Array, r: None
    ) -> dict[str, Array]:
        gates = 2 * self.hidden_size
        z = u[..., :gates] + carry.h @ params.w_h[:, :gates]
        reset, z = self.activate(z, "gate", "gate")
        return {"reset": reset, "forget": z}


@exportable
class MinimalGRUParams(NamedTuple):
    w_x: Array  # [D, 2H]  gates side by side, in the order f, n
    w_h: Array  # [H, 2H]
    b: Array  # [2H]


@dataclass(frozen=True)
class MinimalGRU(Cell[MinimalGRUParams, GRUCarry]):
    """Minimal gated unit: one gate does the work of two (MGU: Zhou et al. 2016).

        f = sigmoid(x W_xf + h W_hf + b_f)
        n = tanh(x W_xn + (f h) W_hn + b_n)
        h' = (1 - f) h + f n                                                   y = h'

    x `[..., D]`, h and y `[..., H]`, all in the dtype of the parameters. Two products
    follow one another in a step, so the `fused` strategy does not serve it. Raises
    ValueError for a size below 1.
    """

    input_size: int
    hidden_size: int

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> MinimalGRUParams:
        key_x, key_h = jax.random.split(key)
        size = self.hidden_size
        return MinimalGRUParams(
            w_x=lecun_normal(key_x, self.input_size, 2 * size, dtype),
            w_h=orthogonal(key_h, size, 2, dtype),
            b=jnp.zeros(2 * size, dtype),
        )

    def initial_carry(
        self, params: MinimalGRUParams, batch_shape: tuple[int, ...] = ()
    ) -> GRUCarry:
        return GRUCarry(zeros(params, batch_shape, self.hidden_size))

    def project(self, params: MinimalGRUParams, x: Array) -> Array:
        return x @ params.w_x + across(params.b, x)

    def recur(
        self, params: MinimalGRUParams, carry: GRUCarry, u: Array
    ) -> tuple[GRUCarry, Array]:
        w_f, w_n = jnp.split(params.w_h, 2, axis=-1)
        u_f, u_n = jnp.split(u, 2, axis=-1)
        f = sigmoid(u_f + carry.h @ w_f)
        n = jnp.tanh(u_n + (f * carry.h) @ w_n)
        h = (1 - f) * carry.h + f * n
        return GRUCarry(h), h

    def gates(
        self, params: MinimalGRUParams, carry: GRUCarry, u: Array, r: None
    ) -> dict[str, Array]:
        size = self.hidden_size
        # The paper's f lets the new in.
        return {"forget": sigmoid(-u[..., :size] - carry.h @ params.w_h[:, :size])}

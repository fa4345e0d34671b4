"""The delta rule: a matrix memory that takes out what a key held before it writes anew."""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, cast_like, widen
from jaxrnn.cell import Cell, Params, exportable
from jaxrnn.cells.contain import contain
from jaxrnn.cells.initial import lecun_normal, uniform
from jaxrnn.cells.triangular import decays, sight, strictly_lower, substitute
from jaxrnn.constants import check_number, check_size
from jaxrnn.strategies.select import select


@exportable
class DeltaNetParams(NamedTuple):
    """For n = `householders`."""

    w_x: Array  # [D, H + 2nH]  side by side: q, k_1 to k_n, v_1 to v_n; heads within each
    w_beta: Array  # [D, n heads]  one number a head, for 1 to n
    b_beta: Array  # [n heads]


@exportable
class GatedDeltaNetParams(NamedTuple):
    """For n = `householders`."""

    w_x: Array  # [D, H + 2nH]  side by side: q, k_1 to k_n, v_1 to v_n; heads within each
    w_beta: Array  # [D, n heads]  one number a head, for 1 to n
    b_beta: Array  # [n heads]
    w_a: Array  # [D, heads]
    b_a: Array  # [heads]
    log_rate: Array  # [heads]  R of the equations


@exportable
class DeltaNetCarry(NamedTuple):
    s: Array  # [..., heads, H / heads, H / heads]  memory, keys by values


@exportable
class DeltaNetInput(NamedTuple):
    """What of a step needs no past."""

    q: Array  # [..., heads, H / heads]
    k: Array  # [..., heads, n, H / heads]
    v: Array  # [..., heads, n, H / heads]
    beta: Array  # [..., heads, n]
    log_a: Array  # [..., heads]


@dataclass(frozen=True)
class DeltaRule(Cell[Params, DeltaNetCarry]):
    """What `DeltaNet` and `GatedDeltaNet` share: all but how much a step forgets."""

    input_size: int
    hidden_size: int
    heads: int = 1
    householders: int = 1
    beta_max: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self, "heads")
        check_size(self, "householders")
        check_number(self, "beta_max", above=0)
        name = type(self).__name__
        if self.hidden_size % self.heads:
            raise ValueError(
                f"{name} needs heads that divide hidden_size {self.hidden_size}, got "
                f"{self.heads}"
            )
        if self.beta_max > 2:
            raise ValueError(
                f"{name} needs a beta_max of 2 or less, or its memory would grow without "
                f"bound, got {self.beta_max}"
            )

    def init_rule(self, key: Array, dtype: DTypeLike) -> DeltaNetParams:
        key_x, key_beta = jax.random.split(key)
        size, n = self.hidden_size, self.householders
        return DeltaNetParams(
            w_x=lecun_normal(key_x, self.input_size, (1 + 2 * n) * size, dtype),
            w_beta=lecun_normal(key_beta, self.input_size, n * self.heads, dtype),
            b_beta=jnp.zeros(n * self.heads, dtype),
        )

    def initial_carry(
        self, params: Params, batch_shape: tuple[int, ...] = ()
    ) -> DeltaNetCarry:
        size, dtype = self.hidden_size // self.heads, jax.tree.leaves(params)[0].dtype
        return DeltaNetCarry(jnp.zeros((*batch_shape, self.heads, size, size), dtype))

    def project_rule(
        self, params: DeltaNetParams | GatedDeltaNetParams, x: Array
    ) -> DeltaNetInput:
        """With nothing forgotten."""
        batch, heads, n = x.shape[:-1], self.heads, self.householders
        size = self.hidden_size // heads
        q, kv = jnp.split(jax.nn.silu(widen(x @ params.w_x)), [self.hidden_size], axis=-1)
        k, v = jnp.unstack(kv.reshape(*batch, 2, n, heads, size).swapaxes(-3, -2), axis=-4)
        beta = jax.nn.sigmoid(widen(x @ params.w_beta + across(params.b_beta, x)))
        beta = self.beta_max * beta.reshape(*batch, n, heads).swapaxes(-2, -1)
        return DeltaNetInput(
            q=_unit(q.reshape(*batch, heads, size)),
            k=_unit(k),
            v=v,
            beta=beta,
            log_a=jnp.zeros_like(beta[..., 0]),
        )

    def recur(
        self, params: Params, carry: DeltaNetCarry, u: DeltaNetInput
    ) -> tuple[DeltaNetCarry, Array]:
        s, u = widen((carry.s, u))
        s = jnp.exp(u.log_a)[..., None, None] * s
        for j in range(self.householders):
            k = u.k[..., j, :]
            written = u.beta[..., j, None] * (u.v[..., j, :] - _read(s, k))
            s += k[..., :, None] * written[..., None, :]
        return cast_like(DeltaNetCarry(s), carry), self._side_by_side(params, _read(s, u.q))

    def chunk(
        self,
        params: Params,
        start: DeltaNetCarry,
        carry: DeltaNetCarry,
        us: DeltaNetInput,
        mask: Array | None,
        reset: Array | None,
    ) -> tuple[DeltaNetCarry, Array]:
        """`recur` for L steps at once: the WY form of a product of Householders.

        With d_ij for what sub-step i still has of the writing of j <= i, the product of the
        a between them or 0 across a reset, and d_i0 S for what it has of the memory before,

            w_i = beta_i (v_i - d_i0 S^T k_i - sum over j < i of d_ij (k_i k_j) w_j)
            S_i = d_i0 S + sum over j <= i of d_ij k_j w_j^T

        so that all w are the solution of one triangular system.
        """
        wrong, log_a, beta, k, v = contain(
            jnp.zeros_like(us.log_a), us.log_a, us.beta, us.k, us.v
        )
        wrong, log_a, beta = (
            select(mask, a, jnp.zeros_like(a)) for a in (wrong, log_a, beta)
        )
        # Time before the features: heads are one more batch axis of every product. Of
        # steps there are L, of their sub-steps, one after the other, N.
        wrong, log_a = (jnp.moveaxis(a, 0, -1) for a in (wrong, log_a))
        q, beta = jnp.moveaxis(us.q, 0, -2), jax.lax.collapse(jnp.moveaxis(beta, 0, -2), -2)
        k, v = (jax.lax.collapse(jnp.moveaxis(a, 0, -3), -3, -1) for a in (k, v))
        each = partial(jnp.repeat, repeats=self.householders, axis=-1)

        seen, held = sight(reset, log_a)
        left, kept = decays(log_a, seen)
        kept = each(kept)  # [..., L, N]
        memory, lost = _sound_memory(carry)
        before_q, before_k = q @ memory, k @ memory
        if reset is not None:
            first, first_lost = _sound_memory(start)
            before_q = jnp.where(held[..., None], before_q, q @ first)
            before_k = jnp.where(each(held)[..., None], before_k, k @ first)
            memory = select(held[..., -1], memory, first)
            lost = jnp.where(held, lost, first_lost)

        below = strictly_lower(beta[..., None] * each(kept.mT).mT * (k @ k.mT))
        new = beta[..., None] * (v - each(left)[..., None] * before_k)
        written = substitute(below, new)
        # NaN for the steps that see what is not finite. It is kept out of the products and
        # of the system, where it would meet all other steps.
        wrong = lost + jnp.sum(jnp.where(seen, wrong[..., None, :], 0.0), axis=-1)
        left, wrong = left[..., None], wrong[..., None]
        y = ((q @ k.mT) * kept) @ written + left * before_q + wrong
        last = left[..., -1:, :] * memory + (kept[..., -1, :, None] * k).mT @ written
        ys = self._side_by_side(params, jnp.moveaxis(y, -2, 0))
        return cast_like(DeltaNetCarry(last + wrong[..., -1:, :]), carry), ys

    def _side_by_side(self, params: Params, y: Array) -> Array:
        """Heads `[..., heads, H / heads]` as y `[..., H]`."""
        y = y.reshape(*y.shape[:-2], self.hidden_size)
        return y.astype(jax.tree.leaves(params)[0].dtype)

    def gates(
        self, params: Params, carry: DeltaNetCarry, u: DeltaNetInput, r: None
    ) -> dict[str, Array]:
        """Of "input" `[..., heads, n]`: beta as a share of `beta_max`."""
        return {"input": u.beta / self.beta_max}


@dataclass(frozen=True)
class DeltaNet(DeltaRule[DeltaNetParams]):
    """Linear attention with the delta rule (Schlag et al. 2021; Yang et al. 2024).

        q = unit(silu(x W_q))                              unit(z) = z / |z|
        k_j = unit(silu(x W_kj))                           for j = 1 ... n
        v_j = silu(x W_vj)
        beta_j = beta_max sigmoid(x W_betaj + b_betaj)     one number for each of `heads`
        S <- S + beta_j k_j (v_j - S^T k_j)^T              for j = 1 ... n
        y = S^T q                                          each head by itself, side by side

    x `[..., D]`, y `[..., H]`, all in the dtype of the parameters; |z| is
    sqrt(sum z^2 + 1e-6). A sub-step multiplies S by I - beta k k^T: with `beta_max` = 1
    its eigenvalues are in [0, 1], with 2 in [-1, 1], which tracking a state takes (Grazzi
    et al. 2025). `householders` is n, the sub-steps of a step; more of them reach more
    states (DeltaProduct: Siems et al. 2025). W start LeCun normal, b_beta at zero, S at
    zeros. The convolutions before q, k and v, and the norm, gate and product after y, that
    published models have around this are layers of their own.

    No step looks back but through the memory, so a block of time has a parallel form
    (`chunk`). Raises ValueError for a size below 1, a hidden size that `heads` does not
    divide, or a `beta_max` outside of (0, 2].
    """

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> DeltaNetParams:
        return self.init_rule(key, dtype)

    def project(self, params: DeltaNetParams, x: Array) -> DeltaNetInput:
        return self.project_rule(params, x)


@dataclass(frozen=True)
class GatedDeltaNet(DeltaRule[GatedDeltaNetParams]):
    """`DeltaNet` whose memory decays (Yang et al. 2025, Gated Delta Networks).

        a = exp(-exp(R) softplus(x W_a + b_a))             one number for each of `heads`
        S <- a S                                           once a step
        S <- S + beta_j k_j (v_j - S^T k_j)^T              for j = 1 ... n, as there
        y = S^T q                                          each head by itself, side by side

    All else is that of `DeltaNet`. An a below exp(-100) counts as that. `init` draws
    exp(R) evenly from 1 to 16 and softplus(b_a) between 0.001 and 0.1, evenly in its
    logarithm, as Mamba-2 does (Dao & Gu 2024).
    """

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> GatedDeltaNetParams:
        key_rule, key_a, key_step, key_rate = jax.random.split(key, 4)
        shape = (self.heads,)
        step = jnp.exp(
            uniform(key_step, shape, math.log(0.001), math.log(0.1), jnp.float32)
        )
        rate = uniform(key_rate, shape, 1.0, 16.0, jnp.float32)
        return GatedDeltaNetParams(
            *self.init_rule(key_rule, dtype),
            w_a=lecun_normal(key_a, self.input_size, self.heads, dtype),
            b_a=jnp.log(jnp.expm1(step)).astype(dtype),  # the inverse of softplus
            log_rate=jnp.log(rate).astype(dtype),
        )

    def project(self, params: GatedDeltaNetParams, x: Array) -> DeltaNetInput:
        step = jax.nn.softplus(widen(x @ params.w_a + across(params.b_a, x)))
        log_a = -jnp.exp(across(widen(params.log_rate), step)) * step
        # Finite, as nothing would be left of it in any case.
        return self.project_rule(params, x)._replace(log_a=jnp.maximum(log_a, -100.0))

    def gates(
        self, params: GatedDeltaNetParams, carry: DeltaNetCarry, u: DeltaNetInput, r: None
    ) -> dict[str, Array]:
        return {**super().gates(params, carry, u, r), "forget": jnp.exp(u.log_a)}


def _unit(z: Array) -> Array:
    return z * jax.lax.rsqrt(jnp.sum(z * z, axis=-1, keepdims=True) + 1e-6)


def _read(s: Array, key: Array) -> Array:
    """S^T k, in the precision of S everywhere: a product of matrices may have less."""
    return jnp.sum(s * key[..., :, None], axis=-2)


def _sound_memory(carry: DeltaNetCarry) -> tuple[Array, Array]:
    """S, and `[..., heads, 1]` zero; where S is not finite, zeros and NaN."""
    s = widen(carry.s)
    lost, s = contain(jnp.zeros_like(s[..., 0, 0]), s)
    return s, lost[..., None]

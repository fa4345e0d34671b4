"""xLSTM's matrix memory."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, cast_like, widen
from jaxrnn.cell import Cell, exportable
from jaxrnn.cells.contain import contain
from jaxrnn.cells.initial import lecun_normal
from jaxrnn.constants import check_numbers, check_size
from jaxrnn.strategies.select import select


@exportable
class MLSTMParams(NamedTuple):
    w_x: Array  # [D, 4H]  side by side, in the order q, k, v, o; heads within each
    b: Array  # [4H]
    w_gate: Array  # [D, 2 heads]  one number a head, in the order i, f
    b_gate: Array  # [2 heads]


@exportable
class MLSTMCarry(NamedTuple):
    c: Array  # [..., heads, H / heads, H / heads]  memory, keys by values
    n: Array  # [..., heads, H / heads]  normaliser, the keys alone
    m: Array  # [..., heads]  c and n are the paper's C and n over exp(m)


@exportable
class MLSTMInput(NamedTuple):
    """What of a step needs no past; q, k and v `[..., heads, H / heads]`."""

    q: Array
    k: Array
    v: Array
    o: Array  # [..., H]
    log_i: Array  # [..., heads]
    log_f: Array  # [..., heads]


@dataclass(frozen=True)
class MLSTM(Cell[MLSTMParams, MLSTMCarry]):
    """LSTM with a matrix memory and exponential gates (Beck et al. 2024, xLSTM).

        q, k, v, o = x W_x + b                         k over sqrt(H / heads)
        i, f = x W_gate + b_gate                       one number for each of `heads`
        C' = sigmoid(f) C + exp(i) k v^T
        n' = sigmoid(f) n + exp(i) k
        y = sigmoid(o) (q C') / max(|q n'|, 1)         each head by itself, side by side

    x `[..., D]`, y `[..., H]`, all in the dtype of the parameters. exp(i) may overflow, so
    the carry holds c = C exp(-m) and n exp(-m) with

        m' = max(log sigmoid(f) + m, i)

    starting from zeros; y does not depend on m. `forget_bias` (first, last) is what `init`
    writes into the forget gates' part of b_gate, spread evenly from head to head; W_gate
    starts at zero. No step looks back but through the memory, so a block of time has a
    parallel form (`chunk`). Raises ValueError for a size below 1 or a hidden size that
    `heads` does not divide.
    """

    input_size: int
    hidden_size: int
    heads: int = 1
    forget_bias: tuple[float, float] = (3.0, 6.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self, "heads")
        if self.hidden_size % self.heads:
            raise ValueError(
                f"MLSTM needs heads that divide hidden_size {self.hidden_size}, got "
                f"{self.heads}"
            )
        check_numbers(self, "forget_bias")
        if not isinstance(self.forget_bias, tuple) or len(self.forget_bias) != 2:
            raise ValueError(
                f"MLSTM needs a forget_bias of (first, last), got {self.forget_bias!r}"
            )

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> MLSTMParams:
        size, heads = self.hidden_size, self.heads
        forget = jnp.linspace(*self.forget_bias, heads)
        return MLSTMParams(
            w_x=lecun_normal(key, self.input_size, 4 * size, dtype),
            b=jnp.zeros(4 * size, dtype),
            w_gate=jnp.zeros((self.input_size, 2 * heads), dtype),
            b_gate=jnp.concatenate([jnp.zeros(heads), forget]).astype(dtype),
        )

    def initial_carry(
        self, params: MLSTMParams, batch_shape: tuple[int, ...] = ()
    ) -> MLSTMCarry:
        size, dtype = self.hidden_size // self.heads, params.b.dtype
        shape = (*batch_shape, self.heads)
        return MLSTMCarry(
            c=jnp.zeros((*shape, size, size), dtype),
            n=jnp.zeros((*shape, size), dtype),
            m=jnp.zeros(shape, dtype),
        )

    def project(self, params: MLSTMParams, x: Array) -> MLSTMInput:
        q, k, v, o = jnp.split(widen(x @ params.w_x + across(params.b, x)), 4, axis=-1)
        i, f = jnp.split(widen(x @ params.w_gate + across(params.b_gate, x)), 2, axis=-1)
        by_head = (*x.shape[:-1], self.heads, self.hidden_size // self.heads)
        return MLSTMInput(
            q=q.reshape(by_head),
            k=k.reshape(by_head) * by_head[-1] ** -0.5,
            v=v.reshape(by_head),
            o=jax.nn.sigmoid(o),
            log_i=i,
            log_f=jax.nn.log_sigmoid(f),
        )

    def recur(
        self, params: MLSTMParams, carry: MLSTMCarry, u: MLSTMInput
    ) -> tuple[MLSTMCarry, Array]:
        c, n, m = jax.tree.map(widen, carry)
        kept = u.log_f + m
        m = jnp.maximum(kept, u.log_i)
        keep, write = jnp.exp(kept - m)[..., None], jnp.exp(u.log_i - m)[..., None]
        c = keep[..., None] * c + (write * u.k)[..., :, None] * u.v[..., None, :]
        n = keep * n + write * u.k
        value = jnp.einsum("...k,...kv->...v", u.q, c)
        h = _normalise(value, jnp.sum(u.q * n, axis=-1), m)
        y = u.o * h.reshape(u.o.shape)
        return cast_like(MLSTMCarry(c, n, m), carry), y.astype(params.b.dtype)

    def chunk(
        self,
        params: MLSTMParams,
        start: MLSTMCarry,
        carry: MLSTMCarry,
        us: MLSTMInput,
        mask: Array | None,
        reset: Array | None,
    ) -> tuple[MLSTMCarry, Array]:
        """`recur` for L steps at once: attention with decaying weights.

        y_t takes v_s with the weight (q_t k_s) exp(i_s) f_{s+1} ... f_t, over all s <= t
        since the last reset r, and what the start holds with f_r ... f_t; before the
        first reset what the carry holds, with f_1 ... f_t.
        """
        m, memory = _one_memory(carry)
        log_i, log_f, k, v = contain(us.log_i, us.log_f, us.k, us.v)
        log_i = select(mask, log_i, jnp.full_like(log_i, -jnp.inf))
        log_f = select(mask, log_f, jnp.zeros_like(log_f))
        # Time before the features: heads are one more batch axis of every product.
        q, k, v = (jnp.moveaxis(a, 0, -2) for a in (us.q, k, v))
        log_i, log_f = (jnp.moveaxis(a, 0, -1) for a in (log_i, log_f))

        total = jnp.cumsum(log_f, axis=-1)
        decay = total[..., :, None] - total[..., None, :]  # [t, s]
        steps = jnp.arange(len(us.q))
        seen = across(steps[:, None] >= steps[None], decay)  # does y_t see the input of s?
        kept = total + m[..., None]  # log of what is left at t of the memory before
        before = q @ memory
        if reset is not None:
            fresh = jnp.moveaxis(reset, 0, -1)[..., None, :]
            segment = jnp.cumsum(fresh, axis=-1)
            seen &= segment[..., :, None] == segment[..., None, :]
            m, memory_of_start = _one_memory(start)
            since = jnp.where(
                seen & fresh[..., None, :], decay + log_f[..., None, :], -jnp.inf
            )
            held = segment == 0  # does y_t see the carry, and not the start?
            kept = jnp.where(held, kept, jnp.max(since, axis=-1) + m[..., None])
            before = jnp.where(held[..., None], before, q @ memory_of_start)
            memory = select(held[..., -1], memory, memory_of_start)

        raised = jnp.where(seen, decay + log_i[..., None, :], -jnp.inf)
        m = jnp.maximum(kept, jnp.max(raised, axis=-1))
        weights = jnp.exp(
            jnp.where(seen, decay + log_i[..., None, :] - m[..., :, None], -jnp.inf)
        )
        keep = jnp.exp(kept - m)[..., None]

        scores = (q @ k.mT) * weights
        before = keep * before
        value = scores @ v + before[..., :-1]
        total_weight = jnp.sum(scores, axis=-1) + before[..., -1]
        h = jnp.moveaxis(_normalise(value, total_weight, m), -2, 0)
        y = us.o * h.reshape(us.o.shape)

        written = weights[..., -1, :, None] * k
        left = keep[..., -1:, :] * memory
        last = MLSTMCarry(
            c=left[..., :-1] + written.mT @ v,
            n=left[..., -1] + jnp.sum(written, axis=-2),
            m=m[..., -1],
        )
        return cast_like(last, carry), y.astype(params.b.dtype)

    def gates(
        self, params: MLSTMParams, carry: MLSTMCarry, u: MLSTMInput, r: None
    ) -> dict[str, Array]:
        return {"forget": jnp.exp(u.log_f), "output": u.o}


def _one_memory(carry: MLSTMCarry) -> tuple[Array, Array]:
    """m, and C with n as one more column: what a query meets in one product."""
    m, c, n = contain(widen(carry.m), widen(carry.c), widen(carry.n))
    return m, jnp.concatenate([c, n[..., None]], axis=-1)


def _normalise(value: Array, weight: Array, m: Array) -> Array:
    # exp(-m) is the paper's 1 in units of exp(m). Above exp(80) it leaves of any value
    # nothing, and beyond exp(88) it would be infinite and its derivative NaN.
    floor = jnp.exp(jnp.minimum(-m, 80.0))
    return value / jnp.maximum(jnp.abs(weight), floor)[..., None]

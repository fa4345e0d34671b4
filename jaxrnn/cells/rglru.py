"""The real-gated linear recurrent unit of Griffin."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, widen, zeros
from jaxrnn.cell import Cell, exportable
from jaxrnn.cells.initial import lecun_normal
from jaxrnn.constants import check_size
from jaxrnn.linear import Affine, RealLinearCell

# The steepest slope that the square root may have in a derivative.
STEEPEST = 1000.0


@exportable
class RGLRUParams(NamedTuple):
    w_a: Array  # [heads, H / heads, H / heads]  recurrence gate, one block a head
    b_a: Array  # [H]
    w_x: Array  # [heads, H / heads, H / heads]  input gate
    b_x: Array  # [H]
    decay: Array  # [H]  L of the equations


@dataclass(frozen=True)
class RGLRU(RealLinearCell[RGLRUParams]):
    """Real-gated linear recurrent unit (De et al. 2024, Griffin).

        r = sigmoid(x W_a + b_a)
        i = sigmoid(x W_x + b_x)
        a = exp(-8 softplus(L) r)
        h' = a h + sqrt(1 - a^2) (i x)                                         y = h'

    x, h and y `[..., H]`, all in the dtype of the parameters. W_a and W_x are block
    diagonal with one block for each of `heads`. L starts where exp(-softplus(L)) is
    spread evenly over the ring between the radii 0.9 and 0.999, as in the authors'
    RecurrentGemma. The square root's slope is clipped at 1000 in derivatives, since a
    gate that keeps everything (a = 1) would make it infinite.

    A reset is a fresh start from h = 0, with the first input scaled by sqrt(1 - a^2) like
    any other; RecurrentGemma feeds the first input of a document unscaled: that is
    `GemmaRGLRU`. Raises ValueError for a size below 1, an input size other than the
    hidden size, or a hidden size that `heads` does not divide.
    """

    input_size: int
    hidden_size: int
    heads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input_size != self.hidden_size:
            raise ValueError(
                f"RGLRU needs an input size equal to its hidden size, got input_size "
                f"{self.input_size} and hidden_size {self.hidden_size}"
            )
        check_size(self, "heads")
        if self.hidden_size % self.heads:
            raise ValueError(
                f"RGLRU needs heads that divide hidden_size {self.hidden_size}, got "
                f"{self.heads}"
            )

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> RGLRUParams:
        key_a, key_x, key_decay = jax.random.split(key, 3)
        size = self.hidden_size // self.heads

        def blocks(key: Array) -> Array:
            keys = jax.random.split(key, self.heads)
            return jax.vmap(lambda key: lecun_normal(key, size, size, dtype))(keys)

        shape = (self.hidden_size,)
        squared = jax.random.uniform(key_decay, shape, minval=0.9**2, maxval=0.999**2)
        return RGLRUParams(
            w_a=blocks(key_a),
            b_a=jnp.zeros(shape, dtype),
            w_x=blocks(key_x),
            b_x=jnp.zeros(shape, dtype),
            # The inverse of softplus at -log(radius).
            decay=jnp.log(jnp.expm1(-0.5 * jnp.log(squared))).astype(dtype),
        )

    def project(self, params: RGLRUParams, x: Array) -> Affine:
        log_a, gated = self.log_a_and_gated(params, x)
        # expm1 keeps what 1 - a^2 would round away where a is close to 1.
        scale = clipped_sqrt(-jnp.expm1(2.0 * log_a))
        return Affine(a=jnp.exp(log_a), b=scale * gated)

    def log_a_and_gated(self, params: RGLRUParams, x: Array) -> tuple[Array, Array]:
        """log a and i x of the equations, in float32 or wider."""

        def gate(w: Array, b: Array) -> Array:
            parts = x.reshape(*x.shape[:-1], *w.shape[:-1])
            mixed = jnp.einsum("...ni,nij->...nj", parts, w)
            return jax.nn.sigmoid(widen(mixed.reshape(x.shape) + across(b, x)))

        r, i = gate(params.w_a, params.b_a), gate(params.w_x, params.b_x)
        log_a = -8.0 * across(jax.nn.softplus(widen(params.decay)), r) * r
        return log_a, i * widen(x)


@exportable
class GemmaRGLRUCarry(NamedTuple):
    h: Array  # [..., H]
    seen: Array  # [...] int32  0 before the first input of a sequence, then 1


@dataclass(frozen=True)
class GemmaRGLRU(Cell[RGLRUParams, GemmaRGLRUCarry]):
    """RG-LRU with an unscaled first input, as in RecurrentGemma (Botev et al. 2024).

        h' = i x                               at the first input of a sequence
           = a h + sqrt(1 - a^2) (i x)         at the others                   y = h'

    Gates, shapes, parameters and errors are those of `RGLRU`. What comes first only the
    carry knows, so a step is no function a h + b and `associative` does not serve it.
    """

    input_size: int
    hidden_size: int
    heads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self, "heads")
        self.scaled  # noqa: B018  for what it refuses

    @property
    def scaled(self) -> RGLRU:
        """The cell that scales every input."""
        return RGLRU(self.input_size, self.hidden_size, self.heads)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> RGLRUParams:
        return self.scaled.init(key, dtype)

    def initial_carry(
        self, params: RGLRUParams, batch_shape: tuple[int, ...] = ()
    ) -> GemmaRGLRUCarry:
        return GemmaRGLRUCarry(
            h=zeros(params, batch_shape, self.hidden_size),
            seen=jnp.zeros(batch_shape, jnp.int32),
        )

    def widen(self, carry: GemmaRGLRUCarry) -> GemmaRGLRUCarry:
        return carry._replace(h=widen(carry.h))

    def project(self, params: RGLRUParams, x: Array) -> Affine:
        _, gated = self.scaled.log_a_and_gated(params, x)
        return self.scaled.project(params, x)._replace(rest=gated)

    def recur(
        self, params: RGLRUParams, carry: GemmaRGLRUCarry, u: Affine
    ) -> tuple[GemmaRGLRUCarry, Array]:
        later = u.a * widen(carry.h) + u.b
        h = jnp.where((carry.seen == 0)[..., None], u.rest, later)
        after = GemmaRGLRUCarry(h.astype(carry.h.dtype), jnp.ones_like(carry.seen))
        return after, h.astype(params.b_a.dtype)

    def gates(
        self, params: RGLRUParams, carry: GemmaRGLRUCarry, u: Affine, r: None
    ) -> dict[str, Array]:
        return {"forget": u.a}


@jax.custom_jvp
def clipped_sqrt(x: Array) -> Array:
    """The square root, with a derivative of at most 1000."""
    return jnp.sqrt(x)


@clipped_sqrt.defjvp
def _clipped_sqrt_jvp(primals, tangents):
    ((x,), (x_dot,)) = primals, tangents
    lowest = 1.0 / (2.0 * STEEPEST) ** 2
    return jnp.sqrt(x), x_dot * 0.5 / jnp.sqrt(jnp.maximum(x, lowest))

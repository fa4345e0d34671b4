"""The linear recurrent unit."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, widen, zeros
from jaxrnn.cell import exportable
from jaxrnn.cells.initial import lecun_normal
from jaxrnn.constants import check_number, check_size
from jaxrnn.linear import Affine, LinearCell


@exportable
class LRUParams(NamedTuple):
    nu_log: Array  # [N]  |a| = exp(-exp(nu_log))
    theta_log: Array  # [N]  arg a = exp(theta_log)
    gamma_log: Array  # [N]  the input's scale is exp(gamma_log)
    b_re: Array  # [D, N]
    b_im: Array  # [D, N]
    c_re: Array  # [N, H]
    c_im: Array  # [N, H]
    d: Array  # [D, H]


@exportable
class LRUCarry(NamedTuple):
    re: Array  # [..., N]
    im: Array  # [..., N]


@dataclass(frozen=True)
class LRU(LinearCell[LRUParams, LRUCarry]):
    """Linear recurrent unit: a complex diagonal recurrence (Orvieto et al. 2023).

        a = exp(-exp(nu_log) + i exp(theta_log))
        h' = a h + exp(gamma_log) (x B)                B = b_re + i b_im
        y = Re(h' C) + x d                             C = c_re + i c_im

    x `[..., D]`, y `[..., H]`; h has `state_size` N complex numbers (H if None), which
    the carry holds as a real and an imaginary part, so that params, carry and y all have
    one real dtype. a starts evenly spread over the ring between the radii `r_min` and
    `r_max` with phases up to `max_phase`, and gamma where it evens out |h|, at
    sqrt(1 - |a|^2). Raises ValueError for a size below 1 or radii that are not
    0 <= r_min < r_max <= 1.
    """

    input_size: int
    hidden_size: int
    state_size: int | None = None
    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.state_size is not None:
            check_size(self, "state_size")
        check_number(self, "r_min")
        check_number(self, "r_max")
        check_number(self, "max_phase", above=0)
        if not 0 <= self.r_min < self.r_max <= 1:
            raise ValueError(
                f"LRU needs radii 0 <= r_min < r_max <= 1, got r_min {self.r_min} and "
                f"r_max {self.r_max}"
            )

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> LRUParams:
        radius_key, phase_key, *keys = jax.random.split(key, 7)
        size = self.state_size or self.hidden_size
        # Away from both ends of (0, 1), where the logarithms are infinite.
        share = jax.random.uniform(radius_key, (size,), minval=1e-6, maxval=1 - 1e-6)
        squared = self.r_min**2 + share * (self.r_max**2 - self.r_min**2)
        phase = self.max_phase * jax.random.uniform(phase_key, (size,), minval=1e-6)
        half = math.sqrt(0.5)  # so that a complex entry has the variance of a real one
        b_re, b_im = (lecun_normal(k, self.input_size, size, dtype) for k in keys[:2])
        c_re, c_im = (lecun_normal(k, size, self.hidden_size, dtype) for k in keys[2:4])
        return LRUParams(
            nu_log=jnp.log(-0.5 * jnp.log(squared)).astype(dtype),
            theta_log=jnp.log(phase).astype(dtype),
            gamma_log=(0.5 * jnp.log1p(-squared)).astype(dtype),
            b_re=half * b_re,
            b_im=half * b_im,
            c_re=c_re,
            c_im=c_im,
            d=lecun_normal(keys[4], self.input_size, self.hidden_size, dtype),
        )

    def initial_carry(
        self, params: LRUParams, batch_shape: tuple[int, ...] = ()
    ) -> LRUCarry:
        size = params.nu_log.shape[-1]
        return LRUCarry(
            re=zeros(params, batch_shape, size), im=zeros(params, batch_shape, size)
        )

    def project(self, params: LRUParams, x: Array) -> Affine:
        radius = jnp.exp(-jnp.exp(widen(params.nu_log)))
        phase = jnp.exp(widen(params.theta_log))
        a = jax.lax.complex(radius * jnp.cos(phase), radius * jnp.sin(phase))
        scale = across(jnp.exp(widen(params.gamma_log)), x)
        b = jax.lax.complex(scale * widen(x @ params.b_re), scale * widen(x @ params.b_im))
        return Affine(a=jnp.broadcast_to(a, b.shape), b=b, rest=x @ params.d)

    def unpack(self, carry: LRUCarry) -> Array:
        return jax.lax.complex(widen(carry.re), widen(carry.im))

    def pack(self, h: Array, like: LRUCarry) -> LRUCarry:
        return LRUCarry(h.real.astype(like.re.dtype), h.imag.astype(like.im.dtype))

    def read(self, params: LRUParams, carry: LRUCarry, rest: Array) -> Array:
        return carry.re @ params.c_re - carry.im @ params.c_im + rest

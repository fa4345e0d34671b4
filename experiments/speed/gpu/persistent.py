"""An LSTM over time whose recurrent weights stay in shared memory: two kernels for Hopper.

    carry, ys = unroll(params, xs, mask=mask, reset=reset, blocks=16)

is `jaxrnn.unroll(LSTM(D, H), ...)` in bfloat16, for H up to 512. A cluster of C blocks
owns 64 rows of the batch; block j owns the units [j h, (j + 1) h) of the H = C h.
`persistent_forward` is the loop, `persistent_backward` the loop back; each module has its
kernel and `simulate`, the same tiling in plain JAX. What needs no loop is here, products
over all times at once: the inputs', the gates done again for the way back, and the
weights' gradients.

Columns of u, gates and weights lie block by block: `columns`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cells.lstm import LSTMCarry, LSTMParams

from . import persistent_backward, persistent_forward
from .tiles import ROWS, begins


class Passes(NamedTuple):
    """The loop and the loop back."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


KERNELS = Passes(persistent_forward.kernel, persistent_backward.kernel)
SIMULATED = Passes(persistent_forward.simulate, persistent_backward.simulate)


def unroll(
    params: LSTMParams,
    xs: Array,
    carry: LSTMCarry | None = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    blocks: int,
    passes: Passes = KERNELS,
) -> tuple[LSTMCarry, Array]:
    """xs `[T, B, D]`, mask and reset `[T, B]`: what `jaxrnn.unroll` gives."""
    length, batch, _ = xs.shape
    size = params.w_h.shape[0]
    us = xs @ columns(params.w_x, blocks) + columns(params.b, blocks)
    w_h = columns(params.w_h, blocks)
    h, c = (jnp.zeros((batch, size), xs.dtype),) * 2 if carry is None else carry
    valid = jnp.ones((length, batch), bool) if mask is None else mask
    begin = jnp.zeros((length, batch), bool) if reset is None else reset
    flags = jnp.where(valid, 1, -1) * jnp.where(begin, 2, 1)

    more = -batch % ROWS
    us, flags = (jnp.pad(a, ((0, 0), (0, more), (0, 0))) for a in (us, flags[..., None]))
    flags = jnp.broadcast_to(flags, (*us.shape[:2], size // blocks)).astype(xs.dtype)
    h, c = (jnp.pad(a, ((0, more), (0, 0))) for a in (h, c))
    start = (h, c.astype(jnp.float32))
    hs, c = _recur(passes, blocks, w_h, us, *start, flags)  # pyright: ignore
    hs, c = hs[:, :batch], c[:batch].astype(xs.dtype)
    return LSTMCarry(hs[-1], c), jnp.where(valid[..., None], hs, 0)


def columns(w: Array, blocks: int) -> Array:
    """w `[..., 4H]` from gates side by side to blocks side by side, each with its gates."""
    *lead, width = w.shape
    gates = w.reshape(*lead, 4, blocks, width // 4 // blocks)
    return gates.swapaxes(-3, -2).reshape(w.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recur(
    passes: Passes, blocks: int, w: Array, us: Array, h: Array, c: Array, flags: Array
) -> tuple[Array, Array]:
    """hs `[T, B, H]` and the last c, from us `[T, B, 4H]`, the carry h, c and `flags`."""
    hs, _, c = passes.forward(w, us, h, c, flags, blocks=blocks)
    return hs, c


def _forward(passes, blocks, w, us, h, c, flags):
    hs, cells, c = passes.forward(w, us, h, c, flags, blocks=blocks)
    return (hs, c), (w, us, h, flags, hs, cells)


def _backward(passes, blocks, residuals, cotangents):
    w, us, h, flags, hs, cells = residuals
    hs_bar, c_bar = cotangents
    before = jnp.concatenate([h[None], hs[:-1]])
    before = jnp.where(begins(flags[..., :1]), 0, before)
    wide = jnp.float32
    gates = us + jnp.matmul(before, w, preferred_element_type=wide).astype(us.dtype)
    gates_bar, h_bar, c_bar = passes.backward(
        w, gates, cells, hs_bar, flags, jnp.zeros_like(c_bar), c_bar, blocks=blocks
    )
    w_bar = jnp.einsum("tbh,tbg->hg", before, gates_bar, preferred_element_type=wide)
    return w_bar.astype(w.dtype), gates_bar, h_bar.astype(h.dtype), c_bar, None


_recur.defvjp(_forward, _backward)

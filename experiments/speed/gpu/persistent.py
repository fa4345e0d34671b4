"""An LSTM over time as one kernel that keeps the recurrent weights in shared memory.

For Hopper, in Pallas Mosaic GPU. A cluster of C blocks owns 64 rows of the batch; block j
owns the units [j h, (j + 1) h) of the H = C h, that is 4 h columns of W_h, which it reads
once. A step of block j:

    gates [64, 4h] = h W_h[:, columns of j] + u        tensor cores, u prefetched
    c, h           = the usual elementwise rest        c stays in registers
    h slice        -> all blocks of the cluster        the exchange

The exchange is either through global memory ("gmem": the slice is written into ys, where it
belongs anyway, a barrier of the cluster, then every block reads the whole row) or from
register to the shared memory of each peer ("smem": asynchronous stores that complete a
barrier over there). With C = 1 there is none: one block owns everything.
"""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxrnn.activations import sigmoid
from jaxrnn.lstm import LSTMParams

ROWS = 64  # of the batch, the smallest product of the tensor cores


def columns(w: Array, blocks: int) -> Array:
    """w `[..., 4H]`, gates side by side, as `[..., C, 4h]`, the gates of each block."""
    *lead, width = w.shape
    units = width // 4 // blocks
    return (
        w.reshape(*lead, 4, blocks, units)
        .swapaxes(-3, -2)
        .reshape(*lead, blocks, 4 * units)
    )


def gate(u: Array, c: Array) -> tuple[Array, Array]:
    """The elementwise rest of the step, u `[rows, 4h]`: c and h."""
    units = c.shape[-1]
    i, f, g, o = (u[:, n * units : (n + 1) * units] for n in range(4))
    c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
    return c, sigmoid(o) * jnp.tanh(c)


def simulate(w_h: Array, us: Array, h: Array, c: Array, blocks: int) -> Array:
    """The kernel's tiling in plain JAX, from the arguments of `lstm`."""
    us = us.reshape(*us.shape[:2], blocks, -1)
    w = columns(w_h, blocks)
    cs = c.reshape(len(h), blocks, -1).swapaxes(0, 1).astype(jnp.float32)

    def step(carry: Any, u: Array) -> Any:
        h, cs = carry
        slices = []
        for j in range(blocks):
            product = jnp.dot(h, w[:, j], preferred_element_type=jnp.float32)
            c, y = gate(product + u[:, j].astype(jnp.float32), cs[j])
            cs = cs.at[j].set(c)
            slices.append(y.astype(h.dtype))
        h = jnp.concatenate(slices, axis=1)
        return (h, cs), h

    return lax.scan(step, (h, cs), us)[1]


def lstm(
    w_h: Array,
    us: Array,
    h: Array,
    c: Array,
    *,
    blocks: int,
    exchange: str = "gmem",
    interpret: Any = None,
) -> Array:
    """ys `[T, B, H]` from the carry h, c `[B, H]` and us `[T, B, 4H]`.

    us is x W_x + b with the columns in the order of `columns`. All bfloat16 but c. B must
    be a multiple of 64, and h = H / blocks is 16, 32 or 64.
    """
    length, batch, _ = us.shape
    units = h.shape[1] // blocks
    dtype = us.dtype

    def kernel(
        w_gmem, u_gmem, h_gmem, c_gmem, y_gmem, w, hs, u, y, arrived, ready, fetched, free
    ):
        me = lax.axis_index("block")
        rows = pl.ds(lax.axis_index("tile") * ROWS, ROWS)

        def fetch(t: Any) -> None:
            mine = pl.ds(me * 4 * units, 4 * units)
            plgpu.copy_gmem_to_smem(u_gmem.at[t, rows, mine], u, fetched)

        def read_row(source: Any) -> None:
            for peer in range(blocks):
                part = source.at[rows, pl.ds(peer * units, units)]
                plgpu.copy_gmem_to_smem(part, hs.at[peer], arrived)

        plgpu.copy_gmem_to_smem(w_gmem.at[me], w, ready)
        fetch(0)
        read_row(h_gmem)
        plgpu.barrier_wait(ready)

        def multiply(acc: Any) -> Array:
            for peer in range(blocks):
                plgpu.wgmma(acc, hs.at[peer], w.at[pl.ds(peer * units, units)])
            plgpu.wgmma_wait(0)
            return acc[...]

        def step(t: Any, c: Array) -> Array:
            plgpu.barrier_wait(arrived)
            product = pl.run_scoped(multiply, plgpu.ACC((ROWS, 4 * units), jnp.float32))
            if exchange == "smem":
                plgpu.barrier_arrive(free)  # this block has read its h
            plgpu.barrier_wait(fetched)
            u_now = _load(u)
            c, h = gate(product + u_now.astype(jnp.float32), c)
            h = h.astype(dtype)
            plgpu.wait_smem_to_gmem(0)
            y[...] = h
            plgpu.commit_smem()  # and this step's u has been read

            @pl.when(t + 1 < length)
            def _():
                fetch(t + 1)

            out = y_gmem.at[t, rows, pl.ds(me * units, units)]
            plgpu.copy_smem_to_gmem(y, out)
            if exchange == "smem":
                plgpu.barrier_wait(free)  # so have all
                for peer in range(blocks):
                    plgpu.async_store_smem(
                        h,
                        hs.at[me],
                        arrived,
                        cluster_idx=jnp.int32(peer),
                        cluster_dim="block",
                    )
            else:
                plgpu.wait_smem_to_gmem(0)
                plgpu.barrier_arrive(free)
                plgpu.barrier_wait(free)
                read_row(y_gmem.at[t])
            return c

        part = c_gmem.at[rows, pl.ds(me * units, units)]
        start = _load(part, optimized=False)
        lax.fori_loop(0, length, step, start)
        plgpu.barrier_wait(arrived)  # nothing may be under way to a block that has left
        plgpu.wait_smem_to_gmem(0)

    w = columns(w_h, blocks).swapaxes(0, 1)  # [C, H, 4h]

    names = inspect.signature(plgpu.kernel).parameters
    outputs = "out_type" if "out_type" in names else "out_shape"  # jax 0.11, 0.10
    scratch = "scratch_types" if "scratch_types" in names else "scratch_shapes"
    smem = partial(_smem, dtype=dtype)
    call = plgpu.kernel(
        kernel,
        **{
            outputs: jax.ShapeDtypeStruct((length, *h.shape), dtype),
            scratch: [
                smem((blocks * units, 4 * units), swizzle=2 * units),
                smem((blocks, ROWS, units), swizzle=2 * units),
                smem((ROWS, 4 * units), swizzle=min(128, 8 * units)),
                smem((ROWS, units), swizzle=2 * units),
                plgpu.Barrier(num_arrivals=blocks),
                plgpu.Barrier(),
                plgpu.Barrier(),
                plgpu.ClusterBarrier(collective_axes=("block",)),
            ],
        },
        grid=(batch // ROWS,),
        grid_names=("tile",),
        cluster=(blocks,),
        cluster_names=("block",),
        **({} if interpret is None else {"interpret": interpret}),
    )
    return call(w, us, h, c.astype(jnp.float32))


def layer(
    params: LSTMParams, xs: Array, *, blocks: int, exchange: str = "gmem", run: Any = lstm
) -> Array:
    """ys `[T, B, H]` of xs `[T, B, D]` from zeros; `run` is `lstm` or `simulate`."""
    w_x, b = columns(params.w_x, blocks), columns(params.b, blocks)
    us = xs @ w_x.reshape(params.w_x.shape) + b.ravel()
    batch = xs.shape[1]
    us = jnp.pad(us, ((0, 0), (0, -batch % ROWS), (0, 0)))
    h = jnp.zeros((us.shape[1], params.w_h.shape[0]), us.dtype)
    how = {"exchange": exchange} if run is lstm else {}
    ys = run(params.w_h, us, h, h.astype(jnp.float32), blocks=blocks, **how)
    return ys[:, :batch]


def _load(ref: Any, **how: Any) -> Array:
    """The whole of it, in the layout of the tensor cores' results."""
    index = ((),) if "idx" in inspect.signature(plgpu.load).parameters else ()  # jax 0.10
    return plgpu.load(ref, *index, layout=plgpu.Layout.WGMMA, **how)


def _smem(shape: tuple[int, ...], dtype: Any, swizzle: int) -> Any:
    elements = swizzle // jnp.dtype(dtype).itemsize
    return plgpu.SMEM(
        shape,
        dtype,
        transforms=(
            plgpu.TilingTransform((8, elements)),
            plgpu.SwizzleTransform(swizzle),
        ),
    )

"""The loop of the persistent LSTM. Block j, at every step:

gates [64, 4h] = h W_h[:, columns of j] + u     tensor cores; u was fetched a step ahead
c, h           = the usual elementwise rest     c stays in registers
h              -> hs, where it belongs anyway; a barrier of the cluster; then every
                  block reads the rows of all, and multiplies each part as it comes
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxrnn.cells.activations import sigmoid

from .tiles import ACC, ROWS, begins, call, load, shared, valids


def advance(gates: list[Array], h: Array, c: Array, flags: Array) -> tuple[Array, Array]:
    """The elementwise rest of a step, from the carry after resets: h and c."""
    i, f, g, o = gates
    after = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
    valid = valids(flags)
    h = jnp.where(valid, sigmoid(o) * jnp.tanh(after), h)
    return h, jnp.where(valid, after, c)


def simulate(
    w: Array, us: Array, h: Array, c: Array, flags: Array, *, blocks: int
) -> tuple[Array, Array, Array]:
    """The tiling of `kernel` in plain JAX."""
    units = h.shape[1] // blocks

    def part(a: Array, j: int, width: int = units) -> Array:
        return a[..., j * width : (j + 1) * width]

    def step(carry: Any, inputs: Any) -> Any:
        (h, c), (u, flag) = carry, inputs
        begin = begins(flag)
        befores, slices = [], []
        for j in range(blocks):
            product = jnp.dot(h, part(w, j, 4 * units), preferred_element_type=jnp.float32)
            u_now = part(u, j, 4 * units).astype(jnp.float32)
            gates = [
                part(u_now, n) + jnp.where(begin, 0, part(product, n)) for n in range(4)
            ]
            h_now = jnp.where(begin, 0, part(h, j).astype(jnp.float32))
            c_now = jnp.where(begin, 0, part(c, j))
            befores.append(c_now)
            slices.append(advance(gates, h_now, c_now, flag))
        h = jnp.concatenate([h for h, _ in slices], axis=1).astype(h.dtype)
        c = jnp.concatenate([c for _, c in slices], axis=1)
        return (h, c), (h, jnp.concatenate(befores, axis=1))

    (_, c), (hs, cells) = lax.scan(step, (h, c), (us, flags))
    return hs, cells, c


def kernel(
    w: Array, us: Array, h: Array, c: Array, flags: Array, *, blocks: int
) -> tuple[Array, Array, Array]:
    """hs, the c that each step starts from `[T, B, H]`, and the last c `[B, H]`.

    w `[H, 4H]` and us `[T, B, 4H]` with columns block by block, h and flags
    `[T, B, h]` are bfloat16, c float32. B must be a multiple of 64, and h = H / blocks
    16, 32 or 64. A reset starts from zeros.
    """
    length, batch, _ = us.shape
    size = h.shape[1]
    units, narrow, wide = size // blocks, us.dtype, jnp.float32

    def body(
        *refs: Any,
    ) -> None:
        inputs, outputs, buffers, barriers = refs[:5], refs[5:8], refs[8:14], refs[14:]
        w_gmem, u_gmem, h_gmem, c_gmem, flag_gmem = inputs
        hs_gmem, cells_gmem, last_gmem = outputs
        w, hs, u, flag, h_out, c_out = buffers
        arrived, ready, fetched, free = barriers
        me = lax.axis_index("block")
        rows = pl.ds(lax.axis_index("tile") * ROWS, ROWS)
        mine = pl.ds(me * units, units)

        def fetch(t: Any) -> None:
            gates = pl.ds(me * 4 * units, 4 * units)
            plgpu.copy_gmem_to_smem(u_gmem.at[t, rows, gates], u, fetched)
            plgpu.copy_gmem_to_smem(flag_gmem.at[t, rows], flag, fetched)

        def read_all(source: Any) -> None:
            for peer in range(blocks):
                part = source.at[rows, pl.ds(peer * units, units)]
                plgpu.copy_gmem_to_smem(part, hs.at[peer], arrived.at[peer])

        def multiply(acc: Any) -> Array:
            for peer in range(blocks):
                plgpu.barrier_wait(arrived.at[peer])
                plgpu.wgmma(acc, hs.at[peer], w.at[pl.ds(peer * units, units)])
            plgpu.wgmma_wait(0)
            return acc[...]

        def step(t: Any, c: Array) -> Array:
            product = pl.run_scoped(multiply, ACC((ROWS, 4 * units), wide))
            plgpu.barrier_wait(fetched)
            u_now, flags = load(u), load(flag)
            begin = begins(flags)
            h = jnp.where(begin, 0.0, load(hs.at[me]))
            before = jnp.where(begin, 0.0, c)
            gates = []
            for n in range(4):
                gate = slice(n * units, (n + 1) * units)
                gates.append(u_now[:, gate] + jnp.where(begin, 0.0, product[:, gate]))
            h, c = advance(gates, h, before, flags)
            h_out[...] = h.astype(narrow)
            plgpu.commit_smem()  # and u, flag and the old h have been read

            @pl.when(t + 1 < length)
            def _():
                fetch(t + 1)

            plgpu.copy_smem_to_gmem(h_out, hs_gmem.at[t, rows, mine])
            plgpu.wait_smem_to_gmem(0)
            plgpu.barrier_arrive(free)
            plgpu.barrier_wait(free)
            read_all(hs_gmem.at[t])
            c_out[...] = before  # while h is on its way
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(c_out, cells_gmem.at[t, rows, mine])
            return c

        plgpu.copy_gmem_to_smem(w_gmem.at[:, pl.ds(me * 4 * units, 4 * units)], w, ready)
        fetch(0)
        read_all(h_gmem)
        plgpu.barrier_wait(ready)
        c = load(c_gmem.at[rows, mine], optimized=False)
        c = lax.fori_loop(0, length, step, c)
        for peer in range(blocks):
            plgpu.barrier_wait(arrived.at[peer])
        plgpu.wait_smem_to_gmem(0)
        c_out[...] = c
        plgpu.commit_smem()
        plgpu.copy_smem_to_gmem(c_out, last_gmem.at[rows, mine])
        plgpu.wait_smem_to_gmem(0)

    outputs = (
        jax.ShapeDtypeStruct((length, batch, size), narrow),
        jax.ShapeDtypeStruct((length, batch, size), wide),
        jax.ShapeDtypeStruct((batch, size), wide),
    )
    scratch = [
        shared((size, 4 * units), narrow, units),
        shared((blocks, ROWS, units), narrow, units),
        shared((ROWS, 4 * units), narrow, 4 * units),
        shared((ROWS, units), narrow, units),
        shared((ROWS, units), narrow, units),
        shared((ROWS, units), wide, units),
        plgpu.Barrier(num_barriers=blocks),
        plgpu.Barrier(),
        plgpu.Barrier(num_arrivals=2),
        plgpu.ClusterBarrier(collective_axes=("block",)),
    ]
    return call(body, outputs, scratch, batch // ROWS, blocks)(w, us, h, c, flags)

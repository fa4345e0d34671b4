"""The loop back of the persistent LSTM. Block j, from the last step to the first:

    gates_bar [64, 4h] = the elementwise part, from the step's gates and c
    gates_bar          -> where it belongs anyway; a barrier of the cluster; then every
                          block reads the rows of all, four parts ahead of the product
    h_bar [64, h]      = gates_bar W_h[units of j, :]^T     tensor cores

gates_bar is four times as wide as h and does not fit beside the weights at H 512: hence
the ring of four parts. h_bar and c_bar stay in registers.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxrnn.cells.activations import sigmoid

from .tiles import ACC, ROWS, begins, call, load, shared, valids

RING = 4  # parts of gates_bar in shared memory


def retreat(
    gates: list[Array], c: Array, h_bar: Array, c_bar: Array, flags: Array
) -> tuple[list[Array], Array, Array]:
    """The gradients of the gates, and of h and c before the step, all but the product.

    `c` is what the step started from, after resets.
    """
    i, f, g, o = (*map(sigmoid, gates[:2]), jnp.tanh(gates[2]), sigmoid(gates[3]))
    tanh = jnp.tanh(f * c + i * g)
    valid, begin = valids(flags), begins(flags)
    after_bar = c_bar + h_bar * o * (1 - tanh * tanh)
    gates_bar = [
        after_bar * g * i * (1 - i),
        after_bar * c * f * (1 - f),
        after_bar * i * (1 - g * g),
        h_bar * tanh * o * (1 - o),
    ]
    gates_bar = [jnp.where(valid, bar, 0.0) for bar in gates_bar]
    c_bar = jnp.where(begin, 0.0, jnp.where(valid, after_bar * f, c_bar))
    return gates_bar, jnp.where(valid, 0.0, h_bar), c_bar


def simulate(
    w: Array,
    gates: Array,
    cells: Array,
    hs_bar: Array,
    flags: Array,
    h_bar: Array,
    c_bar: Array,
    *,
    blocks: int,
) -> tuple[Array, Array, Array]:
    """The tiling of `kernel` in plain JAX."""
    units = cells.shape[-1] // blocks

    def part(a: Array, j: int, width: int = units) -> Array:
        return a[..., j * width : (j + 1) * width]

    def step(carry: Any, inputs: Any) -> Any:
        (h_bar, c_bar), (gates, c, bar, flag) = carry, inputs
        h_bar = h_bar + bar.astype(jnp.float32)
        parts = []
        for j in range(blocks):
            mine = part(gates, j, 4 * units).astype(jnp.float32)
            four = [part(mine, n) for n in range(4)]
            parts.append(retreat(four, part(c, j), part(h_bar, j), part(c_bar, j), flag))
        gates_bar = jnp.concatenate([a for four, _, _ in parts for a in four], axis=1)
        gates_bar = gates_bar.astype(gates.dtype)
        h_bars = []
        for j, (_, held, _) in enumerate(parts):
            rows = w[j * units : (j + 1) * units]
            product = jnp.dot(gates_bar, rows.T, preferred_element_type=jnp.float32)
            h_bars.append(jnp.where(begins(flag), 0, product + held))
        c_bar = jnp.concatenate([c_bar for _, _, c_bar in parts], axis=1)
        return (jnp.concatenate(h_bars, axis=1), c_bar), gates_bar

    inputs = (gates, cells, hs_bar, flags)
    carry, gates_bar = lax.scan(step, (h_bar, c_bar), inputs, reverse=True)
    return gates_bar, *carry


def kernel(
    w: Array,
    gates: Array,
    cells: Array,
    hs_bar: Array,
    flags: Array,
    h_bar: Array,
    c_bar: Array,
    *,
    blocks: int,
) -> tuple[Array, Array, Array]:
    """gates_bar `[T, B, 4H]`, and h_bar and c_bar `[B, H]` of the first carry.

    gates `[T, B, 4H]` before their activations and w `[H, 4H]`, with columns block by
    block, hs_bar `[T, B, H]` and flags `[T, B, h]` are bfloat16; cells `[T, B, H]`, which
    each step starts from, and the last h_bar and c_bar are float32.
    """
    length, batch, width = gates.shape
    size = width // 4
    units, narrow, wide = size // blocks, gates.dtype, jnp.float32
    ring_size = min(RING, blocks)

    def body(*refs: Any) -> None:
        inputs, outputs, buffers, barriers = refs[:7], refs[7:10], refs[10:16], refs[16:]
        w_gmem, gates_gmem, c_gmem, bar_gmem, flag_gmem, h_last, c_last = inputs
        gates_bar_gmem, h_first, c_first = outputs
        w, gates, c, bar, flag, ring = buffers
        arrived, ready, fetched, free = barriers
        me = lax.axis_index("block")
        rows = pl.ds(lax.axis_index("tile") * ROWS, ROWS)
        mine = pl.ds(me * units, units)
        mine_gates = pl.ds(me * 4 * units, 4 * units)

        def fetch(t: Any) -> None:
            plgpu.copy_gmem_to_smem(gates_gmem.at[t, rows, mine_gates], gates, fetched)
            plgpu.copy_gmem_to_smem(c_gmem.at[t, rows, mine], c, fetched)
            plgpu.copy_gmem_to_smem(bar_gmem.at[t, rows, mine], bar, fetched)
            plgpu.copy_gmem_to_smem(flag_gmem.at[t, rows], flag, fetched)

        def read(t: Any, peer: int) -> None:
            part = gates_bar_gmem.at[t, rows, pl.ds(peer * 4 * units, 4 * units)]
            slot = peer % ring_size
            plgpu.copy_gmem_to_smem(part, ring.at[slot], arrived.at[slot])

        def multiply(acc: Any, t: Any) -> Array:
            for peer in range(blocks):
                slot = peer % ring_size
                plgpu.barrier_wait(arrived.at[slot])
                part = w.at[pl.ds(peer * 4 * units, 4 * units)]
                plgpu.wgmma(acc, ring.at[slot], part)
                if 0 < peer <= blocks - ring_size:
                    plgpu.wgmma_wait(1)  # the part before this one has been read
                    read(t, peer - 1 + ring_size)
            plgpu.wgmma_wait(0)
            return acc[...]

        def step(n: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            t = length - 1 - n
            h_bar, c_bar = carry
            plgpu.barrier_wait(fetched)
            now = load(gates)
            four = [now[:, n * units : (n + 1) * units] for n in range(4)]
            h_bar = h_bar + load(bar)
            flags = load(flag)
            four, held, c_bar = retreat(four, load(c), h_bar, c_bar, flags)
            for n, gate_bar in enumerate(four):
                gates[:, n * units : (n + 1) * units] = gate_bar.astype(narrow)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(gates, gates_bar_gmem.at[t, rows, mine_gates])
            plgpu.wait_smem_to_gmem(0)
            plgpu.barrier_arrive(free)
            plgpu.barrier_wait(free)
            for peer in range(ring_size):
                read(t, peer)

            @pl.when(t > 0)
            def _():
                fetch(t - 1)

            product = pl.run_scoped(lambda acc: multiply(acc, t), ACC((ROWS, units), wide))
            return jnp.where(begins(flags), 0.0, product + held), c_bar

        plgpu.copy_gmem_to_smem(w_gmem.at[:, mine], w, ready)
        fetch(length - 1)
        plgpu.barrier_wait(ready)
        carry = tuple(load(a.at[rows, mine], optimized=False) for a in (h_last, c_last))
        carry = lax.fori_loop(0, length, step, carry)
        for value, first in zip(carry, (h_first, c_first), strict=True):
            c[...] = value
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(c, first.at[rows, mine])
            plgpu.wait_smem_to_gmem(0)

    outputs = (
        jax.ShapeDtypeStruct((length, batch, width), narrow),
        *(jax.ShapeDtypeStruct((batch, size), wide),) * 2,
    )
    scratch = [
        shared((width, units), narrow, units),
        shared((ROWS, 4 * units), narrow, units),
        shared((ROWS, units), wide, units),
        shared((ROWS, units), narrow, units),
        shared((ROWS, units), narrow, units),
        shared((ring_size, ROWS, 4 * units), narrow, units),
        plgpu.Barrier(num_barriers=ring_size),
        plgpu.Barrier(),
        plgpu.Barrier(num_arrivals=4),
        plgpu.ClusterBarrier(collective_axes=("block",)),
    ]
    run = call(body, outputs, scratch, batch // ROWS, blocks)
    return run(w.T, gates, cells, hs_bar, flags, h_bar, c_bar)

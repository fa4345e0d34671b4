"""Without a GPU: every rung lowered for CUDA, and each kernel's tiling simulated.

    python -m experiments.speed.gpu.lowering [--small]

Nothing runs on hardware here. cuDNN's rung is left out: tracing it already asks the card.
"""

import argparse
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn

from ..probes import brief, emit
from . import layers, persistent, persistent_check
from .inputs import CELLS, inputs
from .measure import distance


def lowered(name: str, function: Any, *arguments: Any) -> None:
    try:
        traced = jax.jit(function).trace(*arguments)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
        emit(what=f"{name}, lowered for CUDA", characters=len(text), ok=True)
    except Exception as failure:
        emit(what=f"{name}, lowered for CUDA", ok=False, why=brief(failure))


def rungs(kind: str, size: int, batch: int, length: int) -> None:
    cell, *arrays = inputs(kind, size, batch, length)
    params, xs, ys_bar = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), arrays)
    for name, program in layers.programs(cell, "bfloat16").items():
        weights = program.weights(cell, params)

        def backward(weights, xs, ys_bar, program=program):
            return jax.vjp(program.run, weights, xs)[1](ys_bar)

        with layers.unrolled(program.unroll):
            lowered(f"{kind} {size}x{batch} {name}", backward, weights, xs, ys_bar)


def gradient(unroll: Any, params: Any, xs: Any, ys_bar: Any, carry: Any, flags: Any) -> Any:
    """Values and the gradients by params, xs and the first carry."""
    out, pullback = jax.vjp(partial(unroll, **flags), params, xs, carry)
    return out, pullback((out[0], ys_bar))


def kernels(cases: list[tuple[int, int]], batch: int, length: int) -> None:
    """Value and gradient, with a carry, masks and resets."""
    for size, blocks in cases:
        cell, *arrays = inputs("lstm", size, batch, length)
        arrays = jax.tree.map(jnp.asarray, arrays)
        carry = cell.initial_carry(arrays[0], (batch,))
        arrays.append(jax.tree.map(lambda a: a + 0.5, carry))
        flags = persistent_check.flags(length, batch)
        kernel = partial(persistent.unroll, blocks=blocks)
        simulated = partial(kernel, passes=persistent.SIMULATED)
        scan = partial(jaxrnn.unroll, cell, strategy="scan")
        got, want = (
            jax.jit(partial(gradient, run))(*arrays, flags) for run in (simulated, scan)
        )
        error = distance(got, want)
        what = f"persistent {size} in {blocks} blocks"
        emit(what=f"{what}, simulated against scan", error=error, ok=error < 1e-5)
        narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), arrays)
        lowered(f"{what}, value and gradient", partial(gradient, kernel), *narrow, flags)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    if small:
        rungs("lstm", 16, 2, 8)
        kernels([(64, 2)], batch=5, length=7)
        return
    for kind in CELLS:
        rungs(kind, 512, batch=64, length=512)
    kernels([(128, 4), (256, 8), (512, 16)], batch=64, length=16)


if __name__ == "__main__":
    main()

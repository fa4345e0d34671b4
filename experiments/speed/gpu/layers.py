"""Times one LSTM or GRU layer over 512 steps: our rungs, Flax, and cuDNN through JAX.

    python -m experiments.speed.gpu.layers --cell lstm --size 512x64 --dtype bfloat16

Equal weights for all; the first 16 outputs are compared with the CPU's in float32, and
the gradient by the inputs with that of the first program. In float32 JAX multiplies in
TF32 on such a card unless "highest" is said.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import Array

import jaxrnn
from jaxrnn.convert import to_cudnn, to_linen
from jaxrnn.strategies.choose import Named
from jaxrnn.strategies.turns import STEPS_A_TURN

from ..probes import brief, emit
from .cudnn import lstm
from .inputs import inputs
from .measure import alone, compile_all, distance, milliseconds, waited

PREFIX = 16
TOLERANCE = {"float32": 5e-3, "bfloat16": 5e-2}

# What XLA may record as a CUDA graph; loops are not among its defaults.
RECORDED = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,DYNAMIC_SLICE_FUSION,WHILE"
GRAPH = {"xla_gpu_enable_command_buffer": RECORDED, "xla_gpu_graph_min_graph_size": 1}
UNROLLED_GRAPH = GRAPH | {"xla_gpu_command_buffer_unroll_loops": True}


class Program(NamedTuple):
    """A layer over time, `run(params, xs) -> ys`, and how it is compiled."""

    run: Callable[[Any, Array], Array]
    unroll: int | None = None
    options: dict[str, Any] | None = None
    precision: str | None = None
    weights: Callable[[Any, Any], Any] = lambda cell, params: params


def ours(cell: Any, strategy: Named, **how: Any) -> Program:
    return Program(lambda p, xs: jaxrnn.unroll(cell, p, xs, strategy=strategy)[1], **how)


def flax(cell: Any, dtype: str) -> Program:
    kind = {jaxrnn.LSTM: linen.OptimizedLSTMCell, jaxrnn.GRU: linen.GRUCell}[type(cell)]
    rnn = linen.RNN(
        kind(
            cell.hidden_size,
            dtype=jnp.dtype(dtype),
            param_dtype=jnp.dtype(dtype),
            # Never drawn, but its shape is checked, and there is no bfloat16 `qr`.
            recurrent_kernel_init=linen.initializers.zeros,
        ),
        time_major=True,
    )

    def run(params: Any, xs: Array) -> Array:
        return rnn.apply({"params": {"cell": params}}, xs)  # pyright: ignore

    return Program(run, weights=to_linen)


def cudnn(cell: Any, precision: Any) -> Program:
    return Program(lambda w, xs: lstm(cell, w, xs, precision), weights=to_cudnn)


def programs(cell: Any, dtype: str) -> dict[str, Program]:
    table = {
        "fused": ours(cell, "fused"),
        "fused unroll 1": ours(cell, "fused", unroll=1),
        "fused unroll 4": ours(cell, "fused", unroll=4),
        "fused unroll 16": ours(cell, "fused", unroll=16),
        "scan": ours(cell, "scan"),
        "fused graph": ours(cell, "fused", unroll=1, options=GRAPH),
        "fused graph unrolled": ours(cell, "fused", unroll=1, options=UNROLLED_GRAPH),
        "fused highest": ours(cell, "fused", precision="highest"),
        "fused cublas": ours(cell, "fused", options={"xla_gpu_enable_triton_gemm": False}),
        "flax.linen.RNN": flax(cell, dtype),
    }
    if type(cell) is jaxrnn.LSTM and dtype == "float32":
        high = jax.lax.Precision.HIGHEST
        table["jax.experimental.rnn"] = cudnn(cell, None)
        table["jax.experimental.rnn highest"] = cudnn(cell, (high, high))
    return table


@contextlib.contextmanager
def unrolled(times: int | None) -> Iterator[None]:
    """Our loops traced inside take so many steps a turn; None: as the library does."""
    jax.clear_caches()  # what was traced with another number must not be taken again
    steps = {} if times is None else {"cpu": times, "gpu": times}
    with mock.patch.dict(STEPS_A_TURN, steps):
        yield


def lower(program: Program, gradient: bool, params: Any, xs: Array, ys_bar: Array) -> Any:
    def forward(params: Any, xs: Array) -> Array:
        return program.run(params, xs)

    def backward(params: Any, xs: Array, ys_bar: Array) -> Any:
        return jax.vjp(program.run, params, xs)[1](ys_bar)

    with unrolled(program.unroll), jax.default_matmul_precision(program.precision):
        if gradient:
            jitted = jax.jit(backward, compiler_options=program.options)
            return jitted.lower(params, xs, ys_bar)
        return jax.jit(forward, compiler_options=program.options).lower(params, xs)


def reference(cell: Any, params: Any, xs: np.ndarray) -> np.ndarray:
    """The first outputs, on the CPU in float32."""
    with jax.default_device(jax.devices("cpu")[0]):
        params = jax.tree.map(jnp.asarray, params)
        _, ys = jaxrnn.unroll(cell, params, jnp.asarray(xs[:PREFIX]), strategy="scan")
        return np.asarray(ys)


def probe(kind: str, size: int, batch: int, dtype: str, length: int, names: list[str]):
    cell, params, xs, ys_bar = inputs(kind, size, batch, length)
    want = reference(cell, params, xs)
    table = programs(cell, dtype)
    names = [name for name in names if name in table]

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)

    arguments = {
        name: (table[name].weights(cell, cast(params)), cast(xs), cast(ys_bar))
        for name in names
    }
    began = time.perf_counter()
    compiled = compile_all(
        {
            (name, gradient): partial(lower, table[name], gradient, *arguments[name])
            for name in names
            for gradient in (False, True)
        }
    )
    common = {"cell": kind, "H": size, "B": batch, "T": length, "dtype": dtype}
    emit(**common, compiled=len(compiled), seconds=time.perf_counter() - began)
    first = None
    for (name, gradient), program in compiled.items():
        row = {**common, "program": name, "pass": "gradient" if gradient else "forward"}
        if isinstance(program, Exception):
            emit(**row, ok=False, why=brief(program))
            continue
        try:
            given = arguments[name] if gradient else arguments[name][:2]
            with alone():
                result = program(*given)
                took = milliseconds(waited(program, *given))
            if gradient:
                got = np.asarray(result[1].astype(jnp.float32))
                first = got if first is None else first
                error, ok = distance(got, first), None
            else:
                got = np.asarray(result[:PREFIX].astype(jnp.float32))
                error = distance(got, want)
                ok = error < TOLERANCE[dtype]
            emit(**row, ms=took, us_per_step=1e3 * took / length, error=error, ok=ok)
        except Exception as failure:
            emit(**row, ok=False, why=brief(failure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", nargs="+", default=["lstm"])
    parser.add_argument("--size", nargs="+", default=["512x64"], help="HxB")
    parser.add_argument("--dtype", nargs="+", default=["bfloat16"])
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--programs", nargs="+", default=["fused", "flax.linen.RNN"])
    arguments = parser.parse_args()
    for kind in arguments.cell:
        for size in arguments.size:
            for dtype in arguments.dtype:
                hidden, batch = map(int, size.split("x"))
                names = arguments.programs
                probe(kind, hidden, batch, dtype, arguments.length, names)


if __name__ == "__main__":
    main()

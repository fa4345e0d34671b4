"""Values and gradients of every recurrence and strategy here, against float64 on the CPU.

    python -m experiments.speed.gpu.parity [--bfloat16] [--only LSTM GRU]

Masks, resets and noise included. Products in float32 are asked for in full ("highest").
"""

import argparse
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxrnn
from jaxrnn.strategies.choose import STRATEGIES, Named

from ..probes import brief, emit
from .measure import alone, compile_all, distance

T, B, D, H = 70, 5, 32, 48

RECURRENCES = [
    jaxrnn.Elman(D, H),
    jaxrnn.Elman(D, H, activation="relu"),
    jaxrnn.LSTM(D, H),
    jaxrnn.GRU(D, H),
    jaxrnn.ResetBeforeGRU(D, H),
    jaxrnn.PeepholeLSTM(D, H),
    jaxrnn.CoupledLSTM(D, H),
    jaxrnn.LayerNormLSTM(D, H),
    jaxrnn.ProjectedLSTM(D, H, projection_size=16),
    jaxrnn.LSTM1997(D, H, block_size=2),
    jaxrnn.Carousel(D, H),
    jaxrnn.SLSTM(D, H, heads=2),
    jaxrnn.LayerNormGRU(D, H),
    jaxrnn.MinimalGRU(D, H),
    jaxrnn.IndRNN(D, H),
    jaxrnn.MinGRU(D, H),
    jaxrnn.MinLSTM(D, H),
    jaxrnn.RGLRU(H, H, heads=2),
    jaxrnn.LRU(D, H, state_size=20, r_min=0.5),
    jaxrnn.MLSTM(D, H, heads=2),
    jaxrnn.DeltaNet(D, H, heads=2, householders=2, beta_max=2.0),
    jaxrnn.GatedDeltaNet(D, H, heads=2),
    jaxrnn.Zoneout(jaxrnn.LSTM(D, H), (0.2, 0.4)),
    jaxrnn.VariationalDropout(jaxrnn.GRU(D, H), 0.3),
    jaxrnn.LearnedStart(jaxrnn.LSTM(D, H)),
    jaxrnn.Slower(jaxrnn.GRU(D, H), every=2),
    jaxrnn.Precision(jaxrnn.LSTM(D, H), carry="float32"),
    jaxrnn.Stack((jaxrnn.LSTM(D, H), jaxrnn.GRU(H, 16))),
    jaxrnn.Bidirectional(jaxrnn.LSTM(D, H), jaxrnn.GRU(D, 16)),
    jaxrnn.Residual(jaxrnn.GRU(D, D)),
    jaxrnn.Stack(
        (
            jaxrnn.Skip(jaxrnn.WeightDrop(jaxrnn.Elman(D, 16), 0.5)),
            jaxrnn.Highway(jaxrnn.Elman(48, 48)),
        )
    ),
]

TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-1}


def example(recurrence: Any, dtype: str) -> tuple[Any, Array]:
    key, noise = jax.random.split(jax.random.key(0))
    params = recurrence.init(key, dtype)
    params = recurrence.with_noise(params, noise, T, (B,))
    random = np.random.default_rng(1)
    return params, jnp.asarray(random.normal(size=(T, B, recurrence.input_size)), dtype)


def flags() -> tuple[Array, Array]:
    random = np.random.default_rng(2)
    mask = random.random((T, B)) < 0.8
    mask[:, -1] = False  # a row without a valid step
    return jnp.asarray(mask), jnp.asarray(random.random((T, B)) < 0.1)


def value_and_gradients(
    recurrence: Any, strategy: Named, params: Any, xs: Array, mask: Array, reset: Array
) -> Any:
    leaves, tree = jax.tree.flatten(params)
    moving = [a if jnp.issubdtype(a.dtype, jnp.inexact) else None for a in leaves]

    def outputs(moving: list[Array | None], xs: Array) -> Any:
        whole = [b if a is None else a for a, b in zip(moving, leaves, strict=True)]
        return jaxrnn.unroll(
            recurrence,
            jax.tree.unflatten(tree, whole),
            xs,
            mask=mask,
            reset=reset,
            strategy=strategy,
        )

    values, pullback = jax.vjp(outputs, moving, xs)
    return values, pullback(jax.tree.map(cotangent, values))


def cotangent(value: Array) -> Any:
    """Ones, or what JAX has for a value without derivative: the count of a `Slower`."""
    if jnp.issubdtype(value.dtype, jnp.inexact):
        return jnp.ones_like(value)
    return np.zeros(value.shape, jax.dtypes.float0)


def wide(leaf: Array) -> Array:
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        return leaf.astype(jnp.complex128)
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def strategies(recurrence: Any) -> list[Named]:
    able = []
    for name in STRATEGIES:
        try:
            jaxrnn.explain(recurrence, strategy=name)
        except ValueError:
            continue
        able.append(name)
    return able


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--only", nargs="+", help="recurrences, by the name of the class")
    arguments = parser.parse_args()
    dtype = "bfloat16" if arguments.bfloat16 else "float32"
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")
    cpu, here = jax.devices("cpu")[0], jax.devices()[0]

    lowered, inputs = {}, {}
    for number, recurrence in enumerate(RECURRENCES):
        if arguments.only and type(recurrence).__name__ not in arguments.only:
            continue
        with jax.default_device(cpu):
            example_ = example(recurrence, dtype)
            params, xs = jax.tree.map(wide, example_)
            narrow = (*example_, *flags())
        inputs[number, "want"] = (params, xs, *narrow[2:])
        run = partial(value_and_gradients, recurrence, "scan")
        wanted = jax.device_put(inputs[number, "want"], cpu)
        lowered[number, "want"] = partial(jax.jit(run).lower, *wanted)
        for strategy in strategies(recurrence):
            inputs[number, strategy] = jax.device_put(narrow, here)
            run = partial(value_and_gradients, recurrence, strategy)
            lowered[number, strategy] = partial(
                jax.jit(run).lower, *inputs[number, strategy]
            )
    compiled, want = compile_all(lowered), None
    for (number, strategy), program in compiled.items():
        if strategy == "want":
            want = program(*inputs[number, "want"])
            continue
        row = {"recurrence": str(RECURRENCES[number]), "strategy": strategy, "dtype": dtype}
        if isinstance(program, Exception):
            emit(**row, ok=False, why=brief(program))
            continue
        try:
            with alone():
                error = distance(program(*inputs[number, strategy]), want)
            emit(**row, error=error, ok=error < TOLERANCE[dtype])
        except Exception as failure:
            emit(**row, ok=False, why=brief(failure))


if __name__ == "__main__":
    main()

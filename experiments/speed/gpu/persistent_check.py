"""Runs the persistent kernels on a card: value and gradient against float32, and time.

    python -m experiments.speed.gpu.persistent_check --size 512x64 256x16 --masked 512x64

The reference is `fused` with the same weights in float32, all products in full precision;
beside it stands the error of `fused` in bfloat16. `--masked` adds masks and resets.
"""

import argparse
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxrnn

from ..probes import brief, emit
from . import persistent
from .inputs import inputs
from .measure import alone, compile_all, distance, milliseconds, waited

UNITS = 32  # of a block
TOLERANCE = {"forward": 1e-2, "gradient": 3e-2}


def flags(length: int, batch: int) -> dict[str, Array]:
    random = np.random.default_rng(2)
    mask, reset = (
        random.random((length, batch)) < 0.9,
        random.random((length, batch)) < 0.02,
    )
    return {"mask": jnp.asarray(mask), "reset": jnp.asarray(reset)}


def passes(unroll: Any) -> dict[str, Any]:
    def forward(params: Any, xs: Array, ys_bar: Array, flags: Any) -> Array:
        return unroll(params, xs, **flags)[1]

    def gradient(params: Any, xs: Array, ys_bar: Array, flags: Any) -> Any:
        run = partial(forward, ys_bar=ys_bar, flags=flags)
        return jax.vjp(run, params, xs)[1](ys_bar)

    return {"forward": forward, "gradient": gradient}


def probe(size: int, batch: int, length: int, masked: bool) -> None:
    cell, *arrays = inputs("lstm", size, batch, length)
    narrow = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), arrays)
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), narrow)
    given = flags(length, batch) if masked else {}
    kernel = partial(persistent.unroll, blocks=size // UNITS)
    fused = partial(jaxrnn.unroll, cell, strategy="fused")
    programs = {"kernel": (kernel, narrow), "fused": (fused, narrow), "want": (fused, wide)}

    def lower(name: str, kind: str) -> Any:
        unroll, arrays = programs[name]
        with jax.default_matmul_precision("highest" if name == "want" else None):
            return jax.jit(passes(unroll)[kind]).lower(*arrays, given)

    names = [(name, kind) for kind in TOLERANCE for name in programs]
    compiled = compile_all({pair: partial(lower, *pair) for pair in names})
    row = {"cell": "lstm", "H": size, "B": batch, "T": length, "dtype": "bfloat16"}
    row |= {"program": "persistent", "masks and resets": masked}
    for kind, tolerance in TOLERANCE.items():
        run, fused, want = (compiled[name, kind] for name in ("kernel", "fused", "want"))
        try:
            with alone():
                truth = want(*wide, given)
                got = run(*narrow, given)
                again = jax.tree.leaves(run(*narrow, given))
                same = all(
                    bool((a == b).all())
                    for a, b in zip(jax.tree.leaves(got), again, strict=True)
                )
                error = distance(got, truth)
                beside = distance(fused(*narrow, given), truth)
                took = milliseconds(waited(run, *narrow, given))
            found = {"ms": took, "us_per_step": 1e3 * took / length, "error": error}
            found |= {"error of fused": beside, "same twice": same}
            emit(**row, **{"pass": kind}, **found, ok=error < tolerance and same)
        except Exception as failure:
            why = run if isinstance(run, Exception) else failure
            emit(**row, **{"pass": kind}, ok=False, why=brief(why))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", nargs="*", default=["512x64"], help="HxB")
    parser.add_argument("--masked", nargs="*", default=[], help="HxB")
    parser.add_argument("--length", type=int, default=512)
    arguments = parser.parse_args()
    for masked, sizes in ((False, arguments.size), (True, arguments.masked)):
        for size in sizes:
            hidden, batch = map(int, size.split("x"))
            probe(hidden, batch, arguments.length, masked)


if __name__ == "__main__":
    main()

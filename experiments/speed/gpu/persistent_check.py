"""Runs the persistent kernel on a card: against its simulation, then its time a step.

python -m experiments.speed.gpu.persistent_check --exchange gmem
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp

import jaxrnn
from experiments.speed.gpu import persistent
from experiments.speed.gpu.layers import inputs
from experiments.speed.gpu.measure import brief, distance, emit, milliseconds, waited

UNITS = 32  # of a block

CASES = [(128, 64), (256, 64), (512, 64), (256, 128), (512, 128), (512, 16), (256, 16)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchange", choices=["gmem", "smem"], default="gmem")
    parser.add_argument("--length", type=int, default=512)
    arguments = parser.parse_args()
    for size, batch in CASES:
        cell, params, xs, _ = inputs("lstm", size, batch, arguments.length)
        params, xs = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), (params, xs))
        blocks = size // UNITS
        row = {"cell": "lstm", "H": size, "B": batch, "T": arguments.length}
        row |= {"dtype": "bfloat16", "blocks": blocks}
        row["program"] = f"persistent {arguments.exchange}"
        try:
            layer = partial(persistent.layer, blocks=blocks)
            kernel = jax.jit(partial(layer, exchange=arguments.exchange))
            want = jax.jit(partial(layer, run=persistent.simulate))(params, xs)
            scan = jaxrnn.unroll(cell, params, xs, strategy="scan")[1]
            got = kernel(params, xs)
            row["error"] = distance(got, want)
            row["error_of_scan"] = distance(scan, want)
            row["same_twice"] = bool((kernel(params, xs) == got).all())
            took = milliseconds(waited(kernel, params, xs))
            row |= {"ms": took, "us_per_step": 1e3 * took / arguments.length}
            emit(**row, ok=row["error"] < 2e-2)
        except Exception as failure:
            emit(**row, ok=False, why=brief(failure))


if __name__ == "__main__":
    main()

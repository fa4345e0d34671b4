"""Times one training step of a language model, and says whether it gives the same bits.

    python -m experiments.speed.gpu.language_model --hidden 650 --precision bfloat16

Two layers, 10,000 words, batches of 20 x 35 with the carry kept; the gradient of the mean
cross-entropy and a step of plain gradient descent. bfloat16 is `Precision`: products of
the recurrent layers, float32 parameters, gates and carry; the output layer is float32
(in TF32 on a GPU). `--repeat` runs the step again from the same state and prints the
digest of the parameters after it.
"""

import argparse
import hashlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxrnn
from jaxrnn.models import LanguageModel

from ..probes import brief, emit
from .layers import GRAPH, UNROLLED_GRAPH, unrolled
from .measure import alone, compile_all, milliseconds, waited

V, B, T, RATE = 10_000, 20, 35, 0.1

WAYS: dict[str, tuple[int | None, dict[str, Any] | None]] = {  # unroll, compiler options
    "fused": (None, None),
    "fused unroll 1": (1, None),
    "fused unroll 35": (35, None),
    "fused graph": (1, GRAPH),
    "fused graph unrolled": (1, UNROLLED_GRAPH),
    "fused graph unroll 8": (8, GRAPH),
}


def build(hidden: int, precision: str) -> tuple[Any, Any]:
    """`step(arrays, carry, tokens, targets)` and its first arguments."""
    cell = jaxrnn.LSTM(hidden, hidden)
    layer = cell if precision == "float32" else jaxrnn.Precision(cell, precision)
    model = LanguageModel(V, hidden, [layer, layer], rngs=nnx.Rngs(0))
    graph, arrays = nnx.split(model)
    random = np.random.default_rng(0)
    tokens, targets = random.integers(0, V, (2, T, B))

    def loss(arrays: Any, carry: Any, tokens: Any, targets: Any) -> Any:
        carry, logits = nnx.merge(graph, arrays)(tokens, carry)
        chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - chosen), carry

    def step(arrays: Any, carry: Any, tokens: Any, targets: Any) -> Any:
        (value, carry), slope = jax.value_and_grad(loss, has_aux=True)(
            arrays, carry, tokens, targets
        )
        arrays = jax.tree.map(lambda w, g: w - RATE * g, arrays, slope)
        return arrays, carry, value

    start = (arrays, model.initial_carry((B,)), jnp.asarray(tokens), jnp.asarray(targets))
    return step, start


def digest(tree: Any) -> str:
    """Of the bits of all leaves."""
    bits = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        bits.update(np.asarray(leaf).tobytes())
    return bits.hexdigest()[:16]


def lower(step: Any, start: Any, unroll: int | None, options: dict[str, Any] | None) -> Any:
    with unrolled(unroll):
        return jax.jit(step, compiler_options=options).lower(*start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", nargs="+", type=int, default=[650])
    parser.add_argument("--precision", nargs="+", default=["float32"])
    parser.add_argument("--ways", nargs="+", default=["fused"])
    parser.add_argument("--repeat", type=int, default=0)
    arguments = parser.parse_args()
    for hidden in arguments.hidden:
        for precision in arguments.precision:
            step, start = build(hidden, precision)
            row = {"model": f"2x{hidden}", "dtype": precision, "B": B, "T": T}
            compiled = compile_all(
                {way: partial(lower, step, start, *WAYS[way]) for way in arguments.ways}
            )
            for way, program in compiled.items():
                if isinstance(program, Exception):
                    emit(**row, program=way, ok=False, why=brief(program))
                    continue
                try:
                    with alone():
                        _, _, value = program(*start)
                        found: dict[str, Any] = {
                            "ms": milliseconds(waited(program, *start))
                        }
                    found["tokens_per_second"] = 1e3 * B * T / found["ms"]
                    if arguments.repeat:
                        found["digests"] = [
                            digest(program(*start)) for _ in range(arguments.repeat)
                        ]
                    emit(**row, program=way, loss=float(value), **found, ok=True)
                except Exception as failure:
                    emit(**row, program=way, ok=False, why=brief(failure))


if __name__ == "__main__":
    main()

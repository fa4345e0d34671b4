"""Does `jax.experimental.rnn` compute what `convert.to_cudnn` means?

    python -m experiments.speed.gpu.cudnn

JAX hands its cuDNN call no layouts, so XLA is free to give it a transposed array as it
lies: time first where cuDNN reads batch first. `lstm` says the layout. Told here, against
`scan`: the call on arrays that are batch first, on swapped ones as JAX leaves them, and
on swapped ones whose layout is said; and, should the first be wrong, which order of the
gates comes nearest.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.layout import Layout, with_layout_constraint

import jaxrnn
from jaxrnn.convert import to_cudnn

from ..probes import brief, emit
from .inputs import inputs
from .measure import distance

HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)


def batch_first(cell: Any, weights: Array, xs: Array, precision: Any) -> Array:
    """ys `[B, T, H]` of xs `[B, T, D]`, from zeros."""
    from jax.experimental import rnn

    batch, length, _ = xs.shape
    size = cell.hidden_size
    zeros = jnp.zeros((1, batch, size), xs.dtype)
    lengths = jnp.full(batch, length, jnp.int32)
    sizes = (cell.input_size, size, 1, 0.0, False, precision)
    return rnn.lstm(xs, zeros, zeros, weights, lengths, *sizes)[0]  # pyright: ignore


def lstm(cell: Any, weights: Array, xs: Array, precision: Any = None) -> Array:
    """ys `[T, B, H]` of xs `[T, B, D]`, from zeros."""
    ys = batch_first(cell, weights, _rows(xs.swapaxes(0, 1)), precision)
    return _rows(ys).swapaxes(0, 1)


def _rows(a: Array) -> Array:
    return with_layout_constraint(a, Layout(major_to_minor=(0, 1, 2)))


def swapped(cell: Any, weights: Array, xs: Array, precision: Any) -> Array:
    return batch_first(cell, weights, xs.swapaxes(0, 1), precision).swapaxes(0, 1)


def reordered(params: Any, order: tuple[int, ...]) -> Any:
    def move(w: Array) -> Array:
        gates = w.reshape(*w.shape[:-1], 4, -1)
        return gates[..., jnp.array(order), :].reshape(w.shape)

    return jax.tree.map(move, params)


def main() -> None:
    cell, params, xs, _ = inputs("lstm", 64, 8, 32)
    params, xs = jax.tree.map(jnp.asarray, (params, xs))
    first = xs.swapaxes(0, 1)
    with jax.default_matmul_precision("highest"):
        want = jaxrnn.unroll(cell, params, xs, strategy="scan")[1]
    weights = to_cudnn(cell, params)
    run = jax.jit(batch_first, static_argnums=(0, 3))
    for name, layer in (("swapped inside", swapped), ("layout said", lstm)):
        try:
            got = jax.jit(layer, static_argnums=(0, 3))(cell, weights, xs, HIGHEST)
            emit(arrays=name, error=(error := distance(got, want)), ok=error < 1e-4)
        except Exception as failure:
            emit(arrays=name, ok=False, why=brief(failure))
    error = distance(run(cell, weights, first, HIGHEST), want.swapaxes(0, 1))
    emit(arrays="batch first", error=error, ok=error < 1e-4)
    if error > 1e-4:
        for order in itertools.permutations(range(4)):
            weights = to_cudnn(cell, reordered(params, order))
            got = run(cell, weights, first, HIGHEST)
            emit(order=order, error=distance(got, want.swapaxes(0, 1)))


if __name__ == "__main__":
    main()

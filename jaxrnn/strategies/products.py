"""Products of matrices in the form that they are the fastest and the most exact in."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from jaxrnn.arrays import widen
from jaxrnn.strategies.program import Product, with_products


def for_all_steps(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(params, ...)` of all of time, whose gradients sum over steps and rows."""

    def act(params: Any, *arguments: Any) -> Any:
        return with_products(function, in_one_axis)(turned(params), *arguments)

    return act


def turned(params: Any) -> Any:
    """`params` for products over all of time.

    JAX transposes their gradient into the shape of the weights, and XLA:CPU, in JAX 0.12,
    draws the transposition into a product of two summed axes, which it then adds up in
    bfloat16. Weights that come by way of a transposed copy leave it nothing to draw in.
    """

    def copied(w: Array) -> Array:
        if w.ndim < 2 or widen(w).dtype == w.dtype:
            return w
        return jax.lax.optimization_barrier(w.mT).mT

    return jax.tree.map(copied, params)


def in_one_axis(left: Array, right: Array, **parameters: Any) -> Array:
    """`dot_general` of `[T, ..., K]` and weights `[K, N]`, steps and rows in one axis.

    The gradient of the weights sums over both. Where they are two axes XLA:CPU copies the
    larger side first and takes twice as long. Arrays that lie in parts on several devices
    are left alone: parts of an axis would no longer lie together.
    """
    contracted, batch = parameters["dimension_numbers"]
    of_weights = right.ndim == 2 and contracted == ((left.ndim - 1,), (0,))
    narrow = widen(right).dtype != right.dtype
    if left.ndim <= 2 or narrow or not of_weights or not _on_one_cpu():
        return jax.lax.dot_general(left, right, **parameters)
    parameters |= {"dimension_numbers": (((1,), (0,)), batch)}
    rows = left.reshape(-1, left.shape[-1])
    product = jax.lax.dot_general(rows, right, **parameters)
    return product.reshape(*left.shape[:-1], right.shape[-1])


def _on_one_cpu() -> bool:
    """By the host that traces, or inside of a `shard_map`, where arrays are whole."""
    mesh = jax.sharding.get_abstract_mesh()
    whole = jax.device_count() == 1 if mesh.empty else mesh.are_all_axes_manual
    return whole and jax.default_backend() == "cpu"


def by_transposed(weights: Any, transposed: Any) -> Product:
    """`dot_general` that takes a matrix of `weights` on its right from `transposed`."""
    pairs = [*zip(*map(jax.tree.leaves, (weights, transposed)), strict=True)]

    def product(left: Array, right: Array, **parameters: Any) -> Array:
        (of_left, of_right), batch = parameters["dimension_numbers"]
        known = [flipped for weight, flipped in pairs if weight is right]
        if known and right.ndim == 2 and of_right == (0,):
            parameters |= {"dimension_numbers": ((of_left, (1,)), batch)}
            (right,) = known
        return jax.lax.dot_general(left, right, **parameters)

    return product

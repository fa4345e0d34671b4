"""Products of matrices in the form that they are the fastest and the most exact in.

What a function multiplies is told from its program: `with_products` runs that again,
equation by equation, with a product of ours in place of `dot_general`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array
from jax.extend.core import Literal

from jaxrnn.arrays import widen

# (left, right, **parameters of `dot_general_p`) -> their product
Product = Callable[..., Array]

# What a jaxpr calls another by that is nothing but its equations.
PLAIN_CALLS = frozenset({"jit", "pjit", "closed_call"})


def with_products(function: Callable[..., Any], product: Product) -> Callable[..., Any]:
    """`function` with `product(left, right, **parameters)` in place of `dot_general`.

    Where it uses functions with a derivative of their own or a `shard_map`, it stays as it
    is.
    """

    def act(*arguments: Any) -> Any:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        if _is_more_than_equations(closed.jaxpr):
            return function(*arguments)
        leaves = jax.tree.leaves(arguments)
        results = evaluate(closed.jaxpr, closed.consts, leaves, product)
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return act


def evaluate(
    jaxpr: Any,
    constants: Sequence[Any],
    arguments: Sequence[Any],
    product: Product,
    calls: frozenset[str] = PLAIN_CALLS,
) -> list[Any]:
    """As `jax.core.eval_jaxpr`, with `product` in place of every `dot_general`, also
    within what it calls by one of `calls`."""
    variables = [*jaxpr.constvars, *jaxpr.invars]
    values = dict(zip(variables, [*constants, *arguments], strict=True))

    def read(v: Any) -> Any:
        return v.val if isinstance(v, Literal) else values[v]

    for equation in jaxpr.eqns:
        primitive, parameters = equation.primitive, equation.params
        inputs = [*map(read, equation.invars)]
        if primitive is jax.lax.dot_general_p:
            results = [product(*inputs, **parameters)]
        elif primitive.name in calls:
            inner = _called(equation)
            results = evaluate(inner.jaxpr, inner.consts, inputs, product, calls)
        else:
            results = primitive.bind(*inputs, **parameters)
            results = results if primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [*map(read, jaxpr.outvars)]


def _called(equation: Any) -> Any:
    """The closed jaxpr of a call."""
    parameters = equation.params
    return parameters["jaxpr" if "jaxpr" in parameters else "call_jaxpr"]


def _is_more_than_equations(jaxpr: Any) -> bool:
    """Whether some of it has a derivative of its own, or runs on each device by itself."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name.startswith("custom_") or name == "shard_map":
            return True
        if name in PLAIN_CALLS and _is_more_than_equations(_called(equation).jaxpr):
            return True
    return False


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
        turned = [turned for weight, turned in pairs if weight is right]
        if turned and right.ndim == 2 and of_right == (0,):
            parameters |= {"dimension_numbers": ((of_left, (1,)), batch)}
            right = turned[0]
        return jax.lax.dot_general(left, right, **parameters)

    return product

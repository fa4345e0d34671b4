"""The program of a function, run again equation by equation with products of ours."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array
from jax.extend.core import Literal

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

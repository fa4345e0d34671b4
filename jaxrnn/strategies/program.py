"""The program of a step, run again equation by equation, with products of one's own."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array
from jax.extend.core import Literal

# What a jaxpr calls another by that is nothing but its equations.
PLAIN_CALLS = frozenset({"jit", "pjit", "closed_call"})


def evaluate(
    jaxpr: Any,
    constants: Sequence[Any],
    arguments: Sequence[Any],
    product: Callable[[Any, Array, Array], Array],
    calls: frozenset[str] = PLAIN_CALLS,
) -> list[Any]:
    """As `jax.core.eval_jaxpr`, with `product(equation, left, right)` in place of every
    `dot_general`, also within what it calls by one of `calls`."""
    variables = [*jaxpr.constvars, *jaxpr.invars]
    values = dict(zip(variables, [*constants, *arguments], strict=True))

    def read(v: Any) -> Any:
        return v.val if isinstance(v, Literal) else values[v]

    for equation in jaxpr.eqns:
        primitive, parameters = equation.primitive, equation.params
        inputs = [*map(read, equation.invars)]
        if primitive is jax.lax.dot_general_p:
            results = [product(equation, *inputs)]
        elif primitive.name in calls:
            inner = parameters["jaxpr" if "jaxpr" in parameters else "call_jaxpr"]
            results = evaluate(inner.jaxpr, inner.consts, inputs, product, calls)
        else:
            results = primitive.bind(*inputs, **parameters)
            results = results if primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [*map(read, jaxpr.outvars)]

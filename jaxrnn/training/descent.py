"""The loss of a batch and its gradients, at once or in parts of its rows."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh

from jaxrnn.training.accumulation import in_parts
from jaxrnn.training.mesh import spread
from jaxrnn.training.problem import Problem


def descent(problem: Problem, parts: int, mesh: Mesh) -> Callable[..., tuple[Any, Any]]:
    """(params, carry, batch, key) -> ((loss, metrics, gradients), carry after the batch),
    of `parts` of the rows one after the other."""

    def descend(params: Any, carry: Any, batch: Any, key: Array) -> tuple[Any, Any]:
        def loss(params: Any, carry: Any, batch: Any) -> tuple[Array, Any]:
            value, carry, metrics = problem.loss(params, carry, batch, key)
            return value, (carry, metrics)

        carry = spread(carry, problem.carry_spec, mesh)
        batch = spread(batch, problem.batch_spec, mesh)
        (value, (after, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(
            params, carry, batch
        )
        return (value, metrics, gradients), after

    if parts == 1:
        return descend

    def add_up(params: Any, carry: Any, batch: Any, key: Array) -> tuple[Any, Any]:
        def of_part(carry: Any, batch: Any, key: Array) -> tuple[Any, Any]:
            return descend(params, carry, batch, key)

        ways = problem.carry_spec, problem.batch_spec, problem.weight
        return in_parts(of_part, parts, *ways)(carry, batch, key)

    return add_up

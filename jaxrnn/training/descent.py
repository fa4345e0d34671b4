"""The loss of a batch and its gradients, at once or in parts of its rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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
            value, carry, metrics = three_parts(problem.loss(params, carry, batch, key))
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


def three_parts(given: Any) -> tuple[Array, Any, dict[str, Array]]:
    """What a problem's loss gives; raises ValueError for anything else."""
    if not isinstance(given, tuple | list) or len(given) != 3:
        kind = f"{len(given)} of them" if isinstance(given, tuple | list) else "one value"
        raise ValueError(
            f"a problem's loss gives three: the loss, the carry and a dict of metrics; "
            f"got {kind} (without a carry or metrics give () and {{}})"
        )
    if jnp.shape(given[0]) != ():
        raise ValueError(f"a loss is one number, got an array {list(jnp.shape(given[0]))}")
    return given[0], given[1], given[2]

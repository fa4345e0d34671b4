"""What `gate` takes in of u and r: the two of them, or their sum alone.

Most cells add u to r before anything else. Then one array a step tells the way back all
that it needs of both, and one gradient is that of both: half the memory, and half of what
the loops over time write.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrnn.arrays import widen
from jaxrnn.strategies.step import Step


class Preactivation(Protocol):
    """How u and r enter `gate`. Tangents are None where there is none."""

    def of(self, u: Any, r: Any) -> Any:
        """What to keep of them."""
        ...

    def dot(self, u_dot: Any, r_dot: Any) -> Any:
        """What to keep of their tangents."""
        ...

    def moved(self, dot: Any, r_dot: Any) -> Any:
        """The tangent of what is kept, where r moves by r_dot as well."""
        ...

    def gate(self, step: Step, weights: Any, carry: Any, kept: Any) -> tuple[Any, Any]:
        """`step.gate` of what is kept."""
        ...


class Apart:
    """u and r as they are."""

    def of(self, u: Any, r: Any) -> Any:
        return u, r

    def dot(self, u_dot: Any, r_dot: Any) -> Any:
        return u_dot, r_dot

    def moved(self, dot: Any, r_dot: Any) -> Any:
        return dot[0], add(dot[1], r_dot)

    def gate(self, step: Step, weights: Any, carry: Any, kept: Any) -> tuple[Any, Any]:
        return step.gate(weights, carry, *kept)


class Summed:
    """u + r, as wide as `gate` adds them; their tangents in the dtype of the products."""

    def of(self, u: Any, r: Any) -> Any:
        return add(widen(u), widen(r))

    def dot(self, u_dot: Any, r_dot: Any) -> Any:
        return add(u_dot, r_dot)

    def moved(self, dot: Any, r_dot: Any) -> Any:
        return widen(add(dot, r_dot))

    def gate(self, step: Step, weights: Any, carry: Any, kept: Any) -> tuple[Any, Any]:
        return step.gate(weights, carry, kept, jax.tree.map(jnp.zeros_like, kept))


def preactivation(step: Step, weights: Any, carry: Any, us: Any) -> Preactivation:
    """What the step's `gate` takes in, us being `[T, ...]`: told from its program."""

    def first(weights: Any, carry: Any, us: Any) -> Any:
        u = jax.tree.map(lambda leaf: leaf[0], us)
        return weights, carry, u, step.mix(weights, carry)

    shapes = jax.eval_shape(first, weights, carry, us)
    *_, u, r = shapes
    if jax.tree.map(_kind, u) != jax.tree.map(_kind, r):
        return Apart()
    jaxpr, count = jax.make_jaxpr(step.gate)(*shapes).jaxpr, len(jax.tree.leaves(u))
    users = [_users(jaxpr, v) for v in jaxpr.invars[-2 * count :]]
    pairs = zip(users[:count], users[count:], strict=True)
    return Summed() if all(_are_one_addition(*pair) for pair in pairs) else Apart()


def _kind(leaf: Any) -> tuple[tuple[int, ...], Any]:
    return leaf.shape, leaf.dtype


def _users(jaxpr: Any, variable: Any) -> list[Any]:
    """The equations that read it, or what alone it is widened to; None for the result."""
    users: list[Any] = [e for e in jaxpr.eqns if any(v is variable for v in e.invars)]
    users += [None for v in jaxpr.outvars if v is variable]
    if len(users) == 1 and users[0] and _widens(users[0]):
        return _users(jaxpr, users[0].outvars[0])
    return users


def _widens(equation: Any) -> bool:
    """Whether it is a cast that rounds nothing."""
    if equation.primitive.name != "convert_element_type":
        return False
    (given,), (made,) = equation.invars, equation.outvars
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(given.aval.dtype, made.aval.dtype) == made.aval.dtype


def _are_one_addition(of_u: list[Any], of_r: list[Any]) -> bool:
    if len(of_u) != 1 or of_u != of_r or of_u[0] is None:
        return False
    return of_u[0].primitive.name == "add"


def add(a: Any, b: Any) -> Any:
    """The sum of two trees alike, where None is zero."""

    def sum_of(x: Any, y: Any) -> Any:
        return x if y is None else y if x is None else x + y

    return jax.tree.map(sum_of, a, b, is_leaf=lambda x: x is None)

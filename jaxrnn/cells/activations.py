"""The elementwise functions of cells, by name, so that a cell stays JSON and hashable."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def hard_sigmoid(x: Array) -> Array:
    """clip(x / 5 + 1/2, 0, 1): the piecewise linear gate of Keras 1 and 2 and of ONNX."""
    return jnp.clip(0.2 * x + 0.5, 0.0, 1.0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "hard_sigmoid[1/6]": jax.nn.hard_sigmoid,  # of this slope: JAX, PyTorch and Keras 3
    "softsign": jax.nn.soft_sign,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "identity": lambda x: x,
    # The logistic function stretched to a range; Hochreiter & Schmidhuber 1997 use the
    # first two.
    "logistic[-1,1]": lambda x: jnp.tanh(0.5 * x),
    "logistic[-2,2]": lambda x: 2 * jnp.tanh(0.5 * x),
    "logistic[-4,4]": lambda x: 4 * jnp.tanh(0.5 * x),
}


def check_activation(name: str) -> None:
    """Raises a ValueError that lists the known names if `name` is none of them."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; known: {', '.join(ACTIVATIONS)}")


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by way of tanh: one transcendental, no overflow."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


def clip(x: Array, bound: float | None) -> Array:
    """x held to [-bound, bound], or as it is where bound is None."""
    return x if bound is None else jnp.clip(x, -bound, bound)


def squash(z: Array, *functions: str) -> tuple[Array, ...]:
    """Splits z `[..., n H]` into n blocks and puts each through the function of its name.

    Blocks that are all "sigmoid" or "tanh" share one tanh, because sigmoid(x) =
    tanh(x / 2) / 2 + 1 / 2: written as n activations of n slices, XLA computes the
    transcendentals several times over.
    """
    known = ACTIVATIONS | {"sigmoid": sigmoid}
    if len(functions) == 1:
        return (known[functions[0]](z),)
    if not {"sigmoid", "tanh"}.issuperset(functions):
        blocks = jnp.split(z, len(functions), axis=-1)
        return tuple(known[f](block) for f, block in zip(functions, blocks, strict=True))
    size = z.shape[-1] // len(functions)
    # A constant of NumPy: `jnp.repeat` would be a scatter and a sum in the loop's body.
    slopes = np.repeat([0.5 if f == "sigmoid" else 1.0 for f in functions], size)
    slope = jax.lax.broadcast_to_rank(jnp.asarray(slopes, z.dtype), z.ndim)
    squashed = slope * jnp.tanh(slope * z) + (1 - slope)
    return tuple(jnp.split(squashed, len(functions), axis=-1))

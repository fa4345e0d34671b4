"""How weights start: each gate's block by itself, so that gates begin independent."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def lecun_normal(key: Array, rows: int, columns: int, dtype: DTypeLike) -> Array:
    """Normal `[rows, columns]` of variance 1 / rows, cut at two deviations (LeCun 1998)."""
    draw = jax.nn.initializers.lecun_normal()
    return draw(key, (rows, columns), _drawn_in(dtype)).astype(dtype)


def orthogonal(key: Array, size: int, blocks: int, dtype: DTypeLike) -> Array:
    """`[size, blocks * size]`: orthogonal squares side by side (Saxe et al. 2014)."""
    draw = jax.nn.initializers.orthogonal()
    squares = [
        draw(key, (size, size), _drawn_in(dtype)) for key in jax.random.split(key, blocks)
    ]
    return jnp.concatenate(squares, axis=-1).astype(dtype)


def _drawn_in(dtype: DTypeLike) -> DTypeLike:
    # The QR decomposition behind `orthogonal` does not exist in bfloat16.
    return jnp.promote_types(dtype, jnp.float32)

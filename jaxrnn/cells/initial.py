"""How weights start: each gate's block by itself, so that gates begin independent."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def lecun_normal(key: Array, rows: int, columns: int, dtype: DTypeLike) -> Array:
    """Normal `[rows, columns]` of variance 1 / rows, cut at two deviations (LeCun 1998)."""
    draw = jax.nn.initializers.lecun_normal()
    return draw(key, (rows, columns), _drawn_in(dtype)).astype(dtype)


def orthogonal(
    key: Array, size: int, blocks: int, dtype: DTypeLike, columns: int | None = None
) -> Array:
    """`[size, blocks * columns]`: orthogonal blocks side by side (Saxe et al. 2014).

    A block is square unless `columns` says otherwise; then its shorter side is
    orthonormal.
    """
    draw = jax.nn.initializers.orthogonal()
    shape = (size, columns or size)
    parts = [draw(key, shape, _drawn_in(dtype)) for key in jax.random.split(key, blocks)]
    return jnp.concatenate(parts, axis=-1).astype(dtype)


def uniform(
    key: Array, shape: tuple[int, ...], low: float, high: float, dtype: DTypeLike
) -> Array:
    """Uniform between `low` and `high`: float32's numbers rounded where a dtype is
    narrower, numbers of its own in float64."""
    return jax.random.uniform(key, shape, _drawn_in(dtype), low, high).astype(dtype)


def _drawn_in(dtype: DTypeLike) -> DTypeLike:
    # The QR decomposition behind `orthogonal` does not exist in bfloat16.
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32

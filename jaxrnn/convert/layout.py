"""What the conversions share: foreign arrays, gate orders, two biases, the refusal."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cell import Recurrence

Entry = TypeVar("Entry")


def as_array(x: Any) -> Array:
    """A JAX, NumPy or PyTorch array as a JAX array of the same dtype.

    Raises ValueError for float64 while JAX's 64-bit mode is off: it would lose bits.
    """
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        # NumPy alone knows no bfloat16, and every bfloat16 is a float32.
        brain = str(x.dtype) == "torch.bfloat16"
        x = x.float().numpy().astype(jnp.bfloat16) if brain else x.numpy()
    if not isinstance(x, jax.Array):
        x = np.asarray(x)
    if jax.dtypes.canonicalize_dtype(x.dtype) != x.dtype:
        raise ValueError(
            f"the weights are {x.dtype} and JAX's 64-bit mode is off: switch on "
            "jax_enable_x64, or cast them to float32 first"
        )
    return jnp.asarray(x)


def reorder(x: Array, order: tuple[int, ...]) -> Array:
    """The equal blocks of the last axis of x `[..., n H]`, block order[k] as the k-th."""
    blocks = jnp.split(x, len(order), axis=-1)
    return jnp.concatenate([blocks[k] for k in order], axis=-1)


def merge_biases(b_x: Array, b_h: Array) -> tuple[Array, Array]:
    """A GRU's input and recurrent biases `[3H]`, in the order r, z, n, as b and b_n.

    They are summed but for the candidate's: its recurrent bias lies inside the reset
    product, its input bias outside.
    """
    inner = b_h.shape[0] // 3
    return b_x + b_h.at[-inner:].set(0), b_h[-inner:]


def split_biases(b: Array, b_n: Array) -> tuple[Array, Array]:
    """b and b_n as the two biases `[3H]` that `merge_biases` makes exactly them of."""
    return b, jnp.zeros_like(b).at[-b_n.shape[0] :].set(b_n)


def function_of(cell: Any) -> dict[str, Any]:
    """The class and constants of a cell, without those that only `init` reads."""
    constants = dataclasses.asdict(cell)
    constants.pop("forget_bias", None)
    return {"class": type(cell), **constants}


def counterpart(
    framework: str,
    recurrence: Recurrence,
    table: Mapping[type, Entry],
    reasons: Mapping[type, str],
) -> Entry:
    """What `table` holds for exactly this class (a subclass may be another function).

    Raises ValueError with the reason if `framework` has no counterpart.
    """
    kind = type(recurrence)
    if kind not in table:
        known = ", ".join(cls.__name__ for cls in table)
        reason = reasons.get(kind, f"what converts is {known}")
        raise ValueError(f"{framework} cannot hold {recurrence}: {reason}")
    return table[kind]

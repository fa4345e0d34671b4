"""What the conversions share: foreign arrays, gate orders, two biases, the refusal."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cell import Recurrence
from jaxrnn.cells.gated import GatedCell

Entry = TypeVar("Entry")


def as_array(x: Any, name: str) -> Array:
    """The foreign array `name`, of JAX, NumPy or PyTorch, as a JAX array of its own dtype.

    Raises ValueError for anything but floating-point numbers, and for float64 while JAX's
    64-bit mode is off: it would lose bits.
    """
    if not isinstance(x, jax.Array):
        try:
            x = _as_numpy(x)
        except (TypeError, ValueError, RuntimeError) as error:  # meta, sparse, quantised
            kind = type(x).__name__
            raise ValueError(f"{name}, a {kind}, is not a plain array: {error}") from error
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} must hold floating-point numbers, got {x.dtype}")
    if jax.dtypes.canonicalize_dtype(x.dtype) != x.dtype:
        raise ValueError(
            f"{name} is {x.dtype} and JAX's 64-bit mode is off: switch on "
            "jax_enable_x64, or cast it to float32 first"
        )
    return jnp.asarray(x)


def _as_numpy(x: Any) -> np.ndarray:
    if not hasattr(x, "detach"):
        return np.asarray(x)
    x = x.detach().cpu()
    # NumPy alone knows no bfloat16, and every bfloat16 is a float32.
    brain = str(x.dtype) == "torch.bfloat16"
    return x.float().numpy().astype(jnp.bfloat16) if brain else x.numpy()


def matrix_shape(name: str, x: Array) -> tuple[int, int]:
    """The shape of a weight matrix, from which a cell's sizes are read.

    Raises ValueError if it is none, as are the stacked weights of several cells.
    """
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(
            f"{name} must be a matrix, got shape {list(x.shape)}"
            + ("; convert stacked cells one by one" if x.ndim > 2 else "")
        )
    return x.shape  # pyright: ignore[reportReturnType]


def check_fit(arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Holds the foreign arrays of one cell to their shapes and to one dtype.

    Raises ValueError that names the first one which does not fit.
    """
    first, *_ = arrays
    for name, shape in shapes.items():
        x = arrays[name]
        if x.shape != shape:
            raise ValueError(
                f"{name} must be {list(shape)} beside "
                f"{', '.join(other for other in arrays if other != name)}, got "
                f"{list(x.shape)}"
            )
        if x.dtype != arrays[first].dtype:
            raise ValueError(
                f"{name} is {x.dtype} and {first} {arrays[first].dtype}: cast them to one "
                "dtype first"
            )


def check_one_dtype(params: Any) -> None:
    """Raises ValueError where the parts of a composition have different dtypes."""
    dtypes = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(params)})
    if len(dtypes) > 1:
        raise ValueError(
            f"the layers have the dtypes {' and '.join(dtypes)}: cast them to one first"
        )


def is_from(package: str, x: Any) -> bool:
    """Whether the class of `x` is one of the package's own, which is not imported."""
    return type(x).__module__.partition(".")[0] == package


def reorder(x: Array, order: tuple[int, ...], count: int | None = None) -> Array:
    """The `count` equal blocks of the last axis of x `[..., n H]`, as many as `order` has
    unless told, block order[k] as the k-th."""
    blocks = jnp.split(x, count or len(order), axis=-1)
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
    held: Collection[str] = (),
) -> Entry:
    """What `table` holds for exactly this class (a subclass may be another function).

    Raises ValueError with the reason if `framework` has no counterpart. An option of a
    `GatedCell` that is not the default has one only if it is `held`.
    """
    kind = type(recurrence)
    if kind not in table:
        known = ", ".join(cls.__name__ for cls in table)
        reason = reasons.get(kind, f"what converts is {known}")
        raise ValueError(f"{framework} cannot hold {recurrence}: {reason}")
    options = recurrence.changed() if isinstance(recurrence, GatedCell) else {}
    for name in options.keys() - set(held):
        raise ValueError(
            f"{framework} cannot hold {recurrence}: its cells know no other {name} than "
            "the default"
        )
    return table[kind]

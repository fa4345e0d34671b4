"""Whether a step stretches what it is given or shrinks it."""

from typing import Any

import jax
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxrnn.cell import Recurrence


def spectral_radius(w_h: ArrayLike) -> np.ndarray:
    """The largest absolute eigenvalue of each square block of a recurrent matrix.

    w_h `[..., H, n H]` holds n blocks side by side, one a gate, and gives `[..., n]`.
    Above 1, repeated products grow; below 1 they fade (Pascanu et al. 2013). Raises
    ValueError where the columns are no multiple of the rows.
    """
    matrix = np.asarray(w_h)
    rows, columns = matrix.shape[-2:] if matrix.ndim >= 2 else (0, 0)
    if rows == 0 or columns % rows:
        raise ValueError(
            f"a recurrent matrix is [..., H, n H], got shape {list(matrix.shape)}"
        )
    blocks = np.stack(np.split(matrix, columns // rows, axis=-1), axis=-3)
    return np.max(np.abs(np.linalg.eigvals(blocks)), axis=-1)


def step_jacobian(recurrence: Recurrence, params: Any, carry: Any, x: Array) -> Array:
    """d carry' / d carry of one step at x `[D]`, all leaves laid end to end: `[N, N]`.

    Entry [i, j] is that of the number i after the step by the number j before it, for
    any recurrence that steps, so `spectral_radius` of it serves cells whose recurrent
    weights are no matrix. Raises ValueError for a recurrence that does not step, or x
    with batch axes.
    """
    if x.shape != recurrence.input_shape:
        raise ValueError(
            f"x must be {list(recurrence.input_shape)} for {recurrence}, got shape "
            f"{list(x.shape)}"
        )
    flat, unflatten = ravel_pytree(carry)

    def after(flat: Array) -> Array:
        return ravel_pytree(recurrence.step(params, unflatten(flat), x)[0])[0]

    return jax.jacobian(after)(flat)

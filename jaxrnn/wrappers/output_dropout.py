"""Dropout of what a recurrence puts out."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Recurrence, exportable
from jaxrnn.connections import Connection
from jaxrnn.constants import check_number
from jaxrnn.wrappers.noise import check_rates


@exportable
class OutputDropoutParams(NamedTuple):
    kept: Array | None  # bool [T, ..., H]; [1, ..., H] where it is the same at every step


@dataclass(frozen=True)
class OutputDropout(Connection):
    """Dropout of the outputs of a recurrence, as the branch of a block has it.

        y = cell(x) mask       mask = 0 or 1 / (1 - rate)

    `PreNorm(OutputDropout(cell, 0.2))` drops what the cell adds and leaves the input whole.
    Every step, row and unit has a bit of its own (Zaremba et al. 2014), or with `shared`
    every row and unit, the same at every step (Gal & Ghahramani 2016). Params are (the
    cell's, `OutputDropoutParams`). Raises ValueError if `rate` is outside [0, 1), or for
    xs of another length or batch than the noise was drawn for (so noisy params do not
    step).
    """

    cell: Recurrence
    rate: float
    shared: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "rate")
        check_rates(self)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple:
        return (*super().init(key, dtype), OutputDropoutParams(kept=None))

    def with_noise(
        self, params: tuple, key: Array, length: int, batch_shape: tuple[int, ...] = ()
    ) -> tuple:
        key, inner_key = jax.random.split(key)
        inner, _ = super().with_noise(params, inner_key, length, batch_shape)
        shape = (1 if self.shared else length, *batch_shape, self.output_size)
        kept = jax.random.bernoulli(key, 1 - self.rate, shape)
        return inner, OutputDropoutParams(kept)

    def join(self, params: tuple, x: Array, y: Array) -> Array:
        kept = params[1].kept
        if kept is None:
            return y
        if kept.shape[1:] != y.shape[1:] or len(kept) not in (1, len(y)):
            raise ValueError(
                f"the noise of {self} was drawn for other xs: its mask is "
                f"{list(kept.shape)}, y {list(y.shape)}; draw it for the length and batch "
                "of xs, and step with params without noise"
            )
        return jnp.where(kept, y / (1 - self.rate), jnp.zeros_like(y))

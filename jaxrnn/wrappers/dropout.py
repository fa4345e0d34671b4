"""Dropout of the recurrent connections, the same at every step."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across
from jaxrnn.cell import Cell, exportable
from jaxrnn.constants import check_number
from jaxrnn.wrappers.noise import check_rates, drop
from jaxrnn.wrappers.wrapper import Wrapper


@exportable
class VariationalDropoutParams(NamedTuple):
    cell: Any
    mask: Array | None  # [*batch, H]  0 where dropped, 1 / (1 - rate) where kept


@dataclass(frozen=True)
class VariationalDropout(Wrapper):
    """Dropout of the recurrent connections, the same at every step (Gal & Ghahramani 2016).

        r = cell's mix(carry with h mask)       mask = 0 or 1 / (1 - rate)

    One mask a row and unit serves all gates of all steps (the paper's tied weights); the
    carry itself is untouched. Raises ValueError if `rate` is outside [0, 1), the cell
    does not split into mix and gate, or its carry has no field `h`.
    """

    cell: Cell
    rate: float
    needs_split = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "rate")
        check_rates(self)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> VariationalDropoutParams:
        return VariationalDropoutParams(self.cell.init(key, dtype), mask=None)

    def with_noise(
        self,
        params: VariationalDropoutParams,
        key: Array,
        length: int,
        batch_shape: tuple[int, ...] = (),
    ) -> VariationalDropoutParams:
        key, inner_key = jax.random.split(key)
        params = super().with_noise(params, inner_key, length, batch_shape)
        carry = jax.eval_shape(lambda p: self.initial_carry(p, batch_shape), params)
        if not hasattr(carry, "h"):
            raise ValueError(
                f"{self} drops the field h of a carry, which {type(carry).__name__} of "
                f"{type(self.cell).__name__} does not have"
            )
        ones = jnp.ones(carry.h.shape, carry.h.dtype)
        return params._replace(mask=drop(key, self.rate, ones))

    def of_rows(self, params: VariationalDropoutParams) -> VariationalDropoutParams:
        return super().of_rows(params)._replace(mask=None if params.mask is None else True)

    def mix(self, params: VariationalDropoutParams, carry: Any) -> Any:
        if params.mask is None:
            return super().mix(params, carry)
        mask = jax.lax.stop_gradient(params.mask)
        if mask.shape != carry.h.shape[-mask.ndim :]:
            raise ValueError(
                f"the noise of {self} was drawn for another batch: its mask is "
                f"{list(mask.shape)}, h {list(carry.h.shape)}"
            )
        return super().mix(params, carry._replace(h=carry.h * across(mask, carry.h)))

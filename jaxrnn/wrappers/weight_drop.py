"""Dropout of the recurrent weights, the same at every step."""

from dataclasses import dataclass

import jax
from jax import Array

from jaxrnn.cell import Recurrence
from jaxrnn.connections import Connection
from jaxrnn.constants import check_number
from jaxrnn.wrappers.noise import check_rates, drop


@dataclass(frozen=True)
class WeightDrop(Connection):
    """Dropout of the recurrent weights, the same at every step (Merity et al. 2018).

        w_h = w_h mask       mask = 0 or 1 / (1 - rate)       y = cell's y

    `with_noise` drops entries of every leaf named `w_h` in the params of `cell`, any
    recurrence. Params and carry are one-tuples of the cell's. Raises ValueError if
    `rate` is outside [0, 1) or no params are named w_h.
    """

    cell: Recurrence
    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "rate")
        check_rates(self)

    def with_noise(
        self, params: tuple, key: Array, length: int, batch_shape: tuple[int, ...] = ()
    ) -> tuple:
        key, inner_key = jax.random.split(key)
        params = super().with_noise(params, inner_key, length, batch_shape)
        leaves, structure = jax.tree.flatten_with_path(params)
        recurrent = [getattr(path[-1], "name", None) == "w_h" for path, _ in leaves]
        if not any(recurrent):
            raise ValueError(f"{self} found no params named w_h to drop")
        keys = jax.random.split(key, len(leaves))
        return structure.unflatten(
            drop(key, self.rate, leaf) if dropped else leaf
            for key, dropped, (_, leaf) in zip(keys, recurrent, leaves, strict=True)
        )

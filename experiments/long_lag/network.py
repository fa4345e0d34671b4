"""The networks of Hochreiter & Schmidhuber 1997: a cell, and outputs that read it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn
from jaxrnn.arrays import across
from jaxrnn.cells.initial import uniform


class NetworkParams(NamedTuple):
    cell: Any
    w: Array  # [H (+ D), O]
    b: Array | None  # [O]


@dataclass(frozen=True)
class Network:
    """z = (y of the cell, and x where `sees_inputs`) W + b, at every step.

    xs `[T, ..., D]` gives z `[T, ..., output_size]`. W starts uniformly within
    `init_range` of zero, b at zero; it is there where `bias` is True. While not `present`,
    z is as if y were zero, and nothing that has to do with the cell has a gradient.
    """

    cell: jaxrnn.Cell
    output_size: int
    sees_inputs: bool = False
    bias: bool = True
    init_range: float = 0.1
    present: Array | bool = True

    def init(self, key: Array) -> NetworkParams:
        cell_key, key = jax.random.split(key)
        rows = self.cell.output_size + self.sees_inputs * self.cell.input_size
        shape = (rows, self.output_size)
        dtype = jnp.result_type(float)  # that of the sequences, with 64 bits or 32
        return NetworkParams(
            cell=self.cell.init(cell_key, dtype),
            w=uniform(key, shape, -self.init_range, self.init_range, dtype),
            b=jnp.zeros(self.output_size) if self.bias else None,
        )

    def __call__(self, params: NetworkParams, xs: Array) -> Array:
        _, ys = jaxrnn.unroll(self.cell, params.cell, xs)
        return self._read(params, xs, ys)

    def step(self, params: NetworkParams, carry: Any, x: Array) -> tuple[Any, Array]:
        """One time step: x `[..., D]` to the cell's next carry and z."""
        carry, y = self.cell.step(params.cell, carry, x)
        return carry, self._read(params, x, y)

    def _read(self, params: NetworkParams, x: Array, y: Array) -> Array:
        if self.present is not True:
            y = jnp.where(self.present, y, jnp.zeros_like(y))
        if self.sees_inputs:
            y = jnp.concatenate([y, x], axis=-1)
        z = y @ params.w
        return z if params.b is None else z + across(params.b, z)

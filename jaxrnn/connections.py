"""Connections around a recurrence."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Composition, Recurrence, Run, across, exportable
from jaxrnn.cells.activations import sigmoid
from jaxrnn.cells.initial import lecun_normal
from jaxrnn.constants import by, check_number
from jaxrnn.strategies.step import for_all_steps


class Connection(Composition):
    """A connection around a recurrence: y = join(params, x, what the recurrence gives).

    A subclass is a frozen dataclass with a field `cell`. Its carry is a one-tuple of the
    cell's; its params are a tuple of the cell's and of its own, if it has any.
    """

    cell: Recurrence

    @property
    def parts(self) -> tuple[Recurrence, ...]:
        return (self.cell,)

    @property
    def output_size(self) -> int:
        return self.cell.output_size

    def join(self, params: tuple, x: Array, y: Array) -> Array:
        """The output, from the input and the cell's output; of any number of steps."""
        return y

    def step(self, params: tuple, carry: tuple, x: Array) -> tuple[tuple, Array]:
        inner, y = self.cell.step(params[0], carry[0], x)
        return (inner,), self.join(params, x, y)

    def over_time(
        self, run: Run, params: tuple, carry: tuple, xs: Array
    ) -> tuple[tuple, Array]:
        inner, ys = run(self.cell, params[0], carry[0], xs)
        return (inner,), self.join(for_all_steps(params), xs, ys)


@dataclass(frozen=True)
class Skip(Connection):
    """A recurrence that hands its input on beside its output (Graves 2013).

        y = x, cell(x)        one after the other in `[..., input_size + output_size]`

    In a Stack of Skips every layer sees the input and all layers below it, and the
    output is that of all layers.
    """

    cell: Recurrence

    @property
    def output_size(self) -> int:
        return self.cell.input_size + self.cell.output_size

    def join(self, params: tuple, x: Array, y: Array) -> Array:
        return jnp.concatenate([x, y], axis=-1)


@dataclass(frozen=True)
class Residual(Connection):
    """A recurrence with a connection around it (He et al. 2016).

        y = x + cell(x)

    Raises ValueError if the cell's output size is not its input size.
    """

    cell: Recurrence

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_same_size(self)

    def join(self, params: tuple, x: Array, y: Array) -> Array:
        return x + y


@exportable
class HighwayParams(NamedTuple):
    w: Array  # [D, D]
    b: Array  # [D]


@dataclass(frozen=True)
class Highway(Connection):
    """A recurrence with a gated connection around it (Srivastava et al. 2015).

        t = sigmoid(x W + b)
        y = t cell(x) + (1 - t) x

    Params are (the cell's, `HighwayParams`). `bias` is what `init` writes into b: below
    zero, so that the input gets through at first. Raises ValueError if the cell's output
    size is not its input size.
    """

    cell: Recurrence
    bias: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "bias")
        _check_same_size(self)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple:
        key, key_cell = jax.random.split(key)
        size = self.input_size
        w = lecun_normal(key, size, size, dtype)
        b = jnp.full(size, self.bias, dtype)
        return (*super().init(key_cell, dtype), HighwayParams(w, b))

    def join(self, params: tuple, x: Array, y: Array) -> Array:
        through = sigmoid(x @ params[1].w + across(params[1].b, x))
        return through * y + (1 - through) * x


def _check_same_size(connection: Connection) -> None:
    takes, gives = connection.cell.input_shape, connection.cell.output_shape
    if takes != gives:
        raise ValueError(
            f"{type(connection).__name__} needs equal input and output sizes, got "
            f"{by(takes)} and {by(gives)}"
        )

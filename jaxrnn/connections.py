"""Connections around a recurrence."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across
from jaxrnn.cell import Composition, Recurrence, Run, exportable
from jaxrnn.cells.activations import sigmoid
from jaxrnn.cells.initial import lecun_normal
from jaxrnn.cells.layernorm import normalise
from jaxrnn.constants import by, check_number, check_size
from jaxrnn.strategies.products import for_all_steps, turned


class Connection(Composition):
    """A connection around a recurrence: y = join(params, x, what it gives of enter(x)).

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

    def enter(self, params: tuple, x: Array) -> Array:
        """What the cell takes in of the input; of any number of steps."""
        return x

    def join(self, params: tuple, x: Array, y: Array) -> Array:
        """The output, from the input and the cell's output; of any number of steps."""
        return y

    def step(self, params: tuple, carry: tuple, x: Array) -> tuple[tuple, Array]:
        inner, y = self.cell.step(params[0], carry[0], self.enter(params, x))
        return (inner,), self.join(params, x, y)

    def over_time(
        self, run: Run, params: tuple, carry: tuple, xs: Array
    ) -> tuple[tuple, Array]:
        entered = for_all_steps(self.enter)(params, xs)
        inner, ys = run(self.cell, params[0], carry[0], entered)
        return (inner,), for_all_steps(self.join)(params, xs, ys)


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


@exportable
class NormParams(NamedTuple):
    gain: Array  # [D]
    b: Array  # [D]

    @classmethod
    def start(cls, size: int, dtype: DTypeLike) -> "NormParams":
        return cls(jnp.ones(size, dtype), jnp.zeros(size, dtype))

    def __call__(self, x: Array) -> Array:
        return across(self.gain, x) * normalise(x, 1e-5) + across(self.b, x)


@dataclass(frozen=True)
class PreNorm(Connection):
    """A recurrence that sees its input normalised, with a connection around it (Xiong et
    al. 2020), so that deep stacks of any recurrence train.

        y = x + cell(gain norm(x) + b)
        norm(z) = (z - mean(z)) / sqrt(variance(z) + 1e-5)

    Params are (the cell's, `NormParams`). Raises ValueError if the cell's output size is
    not its input size.
    """

    cell: Recurrence

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_same_size(self)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple:
        return (*super().init(key, dtype), NormParams.start(self.input_size, dtype))

    def enter(self, params: tuple, x: Array) -> Array:
        return params[1](x)

    def join(self, params: tuple, x: Array, y: Array) -> Array:
        return x + y


@exportable
class FeedForwardParams(NamedTuple):
    norm: NormParams
    w_up: Array  # [H, N]
    b_up: Array  # [N]
    w_down: Array  # [N, H]
    b_down: Array  # [H]


@dataclass(frozen=True)
class FeedForward(Connection):
    """A recurrence with two dense layers after it, around which its output goes on.

        z = cell(x)
        y = z + gelu((gain norm(z) + b) W_up + b_up) W_down + b_down

    `FeedForward(PreNorm(cell), 4 * size)` is the block of a pre-norm Transformer with a
    recurrence for its attention. z has `size` features inside. Params are (the cell's,
    `FeedForwardParams`). `products` is the dtype of the two products, as `Precision` has
    it; None is that of the params. Raises ValueError for a size below 1.
    """

    cell: Recurrence
    size: int
    products: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self, "size")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple:
        key, key_up, key_down = jax.random.split(key, 3)
        outer, inner = self.output_size, self.size
        return (
            *super().init(key, dtype),
            FeedForwardParams(
                norm=NormParams.start(outer, dtype),
                w_up=lecun_normal(key_up, outer, inner, dtype),
                b_up=jnp.zeros(inner, dtype),
                w_down=lecun_normal(key_down, inner, outer, dtype),
                b_down=jnp.zeros(outer, dtype),
            ),
        )

    def join(self, params: tuple, x: Array, y: Array) -> Array:
        norm, w_up, b_up, w_down, b_down = params[1]
        inner = jax.nn.gelu(self._multiply(norm(y), w_up) + across(b_up, y))
        return y + self._multiply(inner, w_down) + across(b_down, y)

    def _multiply(self, x: Array, w: Array) -> Array:
        if self.products is None:
            return x @ w
        narrow = x.astype(self.products) @ turned(w.astype(self.products))
        return narrow.astype(x.dtype)


def _check_same_size(connection: Connection) -> None:
    takes, gives = connection.cell.input_shape, connection.cell.output_shape
    if takes != gives:
        raise ValueError(
            f"{type(connection).__name__} needs equal input and output sizes, got "
            f"{by(takes)} and {by(gives)}"
        )

"""Long short-term memory as it was published, before it learned to forget."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, zeros
from jaxrnn.cell import Cell, exportable
from jaxrnn.cells.activations import ACTIVATIONS, check_activation, sigmoid
from jaxrnn.cells.initial import uniform
from jaxrnn.constants import check_number, check_numbers, check_size


@exportable
class LSTM1997Params(NamedTuple):
    w_x: Array  # [D, 2B + H]  to the gates i and o of all blocks, then to the cells
    w_h: Array  # [2B + H, 2B + H]  from the gates and cells to the gates and cells
    b_gates: Array | None  # [2B]
    b_cells: Array | None  # [H]


@exportable
class LSTM1997Carry(NamedTuple):
    h: Array  # [..., H]
    c: Array  # [..., H]
    gates: Array  # [..., 2B]  the gates i and o as they were a step ago


@dataclass(frozen=True)
class LSTM1997(Cell[LSTM1997Params, LSTM1997Carry]):
    """The original LSTM: memory blocks, no forget gate (Hochreiter & Schmidhuber 1997).

        i, o = sigmoid(x W_x + (gates, h) W_h + b_gates)        one of each a block
        z    = x W_x + (gates, h) W_h + b_cells                 one a cell
        c' = c + i g(z)                         g: logistic in [-2, 2]
        h' = o f(c')                            f: logistic in [-1, 1]         y = h'
        gates' = (i, o)

    x `[..., D]`, h, c and y `[..., H]`, gates `[..., 2B]`, all in the dtype of the
    parameters. The H cells form B blocks of `block_size` neighbours that share an input
    and an output gate; gates see all gates of the step before as well. `biases` says
    which units have one: "all", "gates" or "none" (None takes the place of the others).

    `init` draws weights uniformly within `init_range` of zero and writes `input_bias` and
    `output_bias` into the gates' biases: one number, or a tuple with one a block.
    `input_activation` is g, `output_activation` is f. `gradient="truncated"` is the
    paper's: it is cut where it leaves a cell or gate for the step before, so that only
    c, the constant error carousel, takes it back in time.

    Raises ValueError for a size below 1, a block size that does not divide the hidden
    size, biases that do not fit, an unknown gradient, or an unknown activation.
    """

    input_size: int
    hidden_size: int
    block_size: int = 1
    biases: Literal["all", "gates", "none"] = "all"
    input_bias: float | tuple[float, ...] = 0.0
    output_bias: float | tuple[float, ...] = 0.0
    init_range: float = 0.1
    input_activation: str = "logistic[-2,2]"
    output_activation: str = "logistic[-1,1]"
    gradient: Literal["full", "truncated"] = "full"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self, "block_size")
        if self.hidden_size % self.block_size:
            raise ValueError(
                f"LSTM1997 needs a block_size that divides hidden_size "
                f"{self.hidden_size}, got {self.block_size}"
            )
        if self.biases not in ("all", "gates", "none"):
            raise ValueError(
                f'LSTM1997 needs biases of "all", "gates" or "none", got {self.biases!r}'
            )
        if self.gradient not in ("full", "truncated"):
            raise ValueError(
                f'LSTM1997 needs a gradient of "full" or "truncated", got {self.gradient!r}'
            )
        for name in ("input_bias", "output_bias"):
            check_numbers(self, name)
            bias = getattr(self, name)
            if isinstance(bias, tuple) and len(bias) != self.blocks:
                raise ValueError(
                    f"LSTM1997 needs one {name} for each of {self.blocks} blocks, got "
                    f"{len(bias)}"
                )
        check_number(self, "init_range", above=0)
        check_activation(self.input_activation)
        check_activation(self.output_activation)

    @property
    def blocks(self) -> int:
        """B, the number of memory blocks."""
        return self.hidden_size // self.block_size

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> LSTM1997Params:
        key_x, key_h = jax.random.split(key)
        units, bound = 2 * self.blocks + self.hidden_size, self.init_range
        start = [
            jnp.broadcast_to(jnp.asarray(bias, dtype), self.blocks)
            for bias in (self.input_bias, self.output_bias)
        ]
        return LSTM1997Params(
            w_x=uniform(key_x, (self.input_size, units), -bound, bound, dtype),
            w_h=uniform(key_h, (units, units), -bound, bound, dtype),
            b_gates=None if self.biases == "none" else jnp.concatenate(start),
            b_cells=jnp.zeros(self.hidden_size, dtype) if self.biases == "all" else None,
        )

    def initial_carry(
        self, params: LSTM1997Params, batch_shape: tuple[int, ...] = ()
    ) -> LSTM1997Carry:
        return LSTM1997Carry(
            h=zeros(params, batch_shape, self.hidden_size),
            c=zeros(params, batch_shape, self.hidden_size),
            gates=zeros(params, batch_shape, 2 * self.blocks),
        )

    def prepare(self, params: LSTM1997Params, xs: Array) -> tuple[LSTM1997Params, Array]:
        have = params.b_gates is not None, params.b_cells is not None
        if have != (self.biases != "none", self.biases == "all"):
            raise ValueError(f"params must have the biases of {self}, got {params}")
        return params, xs

    def project(self, params: LSTM1997Params, x: Array) -> Array:
        u = x @ params.w_x
        if params.b_gates is not None:
            u = u.at[..., : 2 * self.blocks].add(across(params.b_gates, u))
        if params.b_cells is not None:
            u = u.at[..., 2 * self.blocks :].add(across(params.b_cells, u))
        return u

    def mix(self, params: LSTM1997Params, carry: LSTM1997Carry) -> Array:
        sent = jnp.concatenate([carry.gates, carry.h], axis=-1)
        if self.gradient == "truncated":
            sent = jax.lax.stop_gradient(sent)
        return sent @ params.w_h

    def gate(
        self, params: LSTM1997Params, carry: LSTM1997Carry, u: Array, r: Array
    ) -> tuple[LSTM1997Carry, Array]:
        z_gates, z_cells = jnp.split(u + r, [2 * self.blocks], axis=-1)
        gates = sigmoid(z_gates)
        i, o = jnp.split(jnp.repeat(gates, self.block_size, axis=-1), 2, axis=-1)
        c = carry.c + i * ACTIVATIONS[self.input_activation](z_cells)
        h = o * ACTIVATIONS[self.output_activation](c)
        return LSTM1997Carry(h, c, gates), h

    def gates(
        self, params: LSTM1997Params, carry: LSTM1997Carry, u: Array, r: Array
    ) -> dict[str, Array]:
        i, o = jnp.split(sigmoid((u + r)[..., : 2 * self.blocks]), 2, axis=-1)
        return {"input": i, "output": o}


@exportable
class CarouselParams(NamedTuple):
    w_x: Array  # [D, 2H]  side by side, in the order i, g


@exportable
class CarouselCarry(NamedTuple):
    c: Array  # [..., H]


@dataclass(frozen=True)
class Carousel(Cell[CarouselParams, CarouselCarry]):
    """The constant error carousel with nothing but an input gate.

        i, g = x W_x
        c' = c + sigmoid(i) sigmoid(g)                                         y = c'

    x `[..., D]`, c and y `[..., H]`, all in the dtype of the parameters. Experiments 2a
    and 2b of Hochreiter & Schmidhuber 1997 use one such cell: no output gate, no biases,
    no connection back but the carousel's own. `init` draws weights uniformly within
    `init_range` of zero. Raises ValueError for a size below 1.
    """

    input_size: int
    hidden_size: int
    init_range: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "init_range", above=0)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> CarouselParams:
        shape = (self.input_size, 2 * self.hidden_size)
        return CarouselParams(uniform(key, shape, -self.init_range, self.init_range, dtype))

    def initial_carry(
        self, params: CarouselParams, batch_shape: tuple[int, ...] = ()
    ) -> CarouselCarry:
        return CarouselCarry(zeros(params, batch_shape, self.hidden_size))

    def project(self, params: CarouselParams, x: Array) -> Array:
        i, g = jnp.split(sigmoid(x @ params.w_x), 2, axis=-1)
        return i * g

    def mix(self, params: CarouselParams, carry: CarouselCarry) -> tuple[()]:
        return ()

    def gate(
        self, params: CarouselParams, carry: CarouselCarry, u: Array, r: tuple[()]
    ) -> tuple[CarouselCarry, Array]:
        c = carry.c + u
        return CarouselCarry(c), c

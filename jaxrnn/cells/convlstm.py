"""Long short-term memory over space: convolutions in place of the products."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, zeros
from jaxrnn.cell import Cell, exportable
from jaxrnn.cells.activations import squash
from jaxrnn.cells.initial import lecun_normal, orthogonal
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.constants import check_number, check_sizes

AXES = "WHD"  # of space, from the last


@exportable
class ConvLSTMParams(NamedTuple):
    w_x: Array  # [*kernel, D, 4H]  gates side by side, in the order i, f, g, o
    w_h: Array  # [*kernel, H, 4H]
    b: Array  # [4H]


@dataclass(frozen=True)
class ConvLSTM(Cell[ConvLSTMParams, LSTMCarry]):
    """LSTM whose products are convolutions over space (Shi et al. 2015).

        i, f, g, o = x * W_x + h * W_h + b                          * the convolution
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(c')                                               y = h'

    x `[..., *space, D]`, h, c and y `[..., *space, H]`, all in the dtype of the parameters.
    `spatial_shape` is space: one, two or three axes, which like the channels D and H are
    features and not batch; `kernel_shape` has as many, or is one number for all. Outside of
    space lie zeros, and y has the space of x ("SAME"). Without the peepholes of Shi et al.,
    as in Flax and Keras. `forget_bias` is what `init` writes into the forget gate's part of
    b. Raises ValueError for a size below 1, or shapes that do not fit.
    """

    input_size: int
    hidden_size: int
    spatial_shape: tuple[int, ...]
    kernel_shape: int | tuple[int, ...] = 3
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "forget_bias")
        check_sizes(self, "spatial_shape")
        axes = len(self.spatial_shape)
        if axes > len(AXES):
            raise ValueError(
                f"a ConvLSTM has one to {len(AXES)} axes of space, got spatial_shape "
                f"{self.spatial_shape}"
            )
        if np.ndim(self.kernel_shape) == 0:
            object.__setattr__(self, "kernel_shape", (self.kernel_shape,) * axes)
        check_sizes(self, "kernel_shape")
        if len(self.kernel) != axes:
            raise ValueError(
                f"a ConvLSTM needs a kernel of {axes} axes for spatial_shape "
                f"{self.spatial_shape}, got kernel_shape {self.kernel_shape}"
            )

    @property
    def kernel(self) -> tuple[int, ...]:
        """`kernel_shape`, with a number for each axis of space."""
        assert isinstance(self.kernel_shape, tuple)
        return self.kernel_shape

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (*self.spatial_shape, self.input_size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (*self.spatial_shape, self.hidden_size)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> ConvLSTMParams:
        key_x, key_h = jax.random.split(key)
        size, window = self.hidden_size, math.prod(self.kernel)
        w_x = lecun_normal(key_x, window * self.input_size, 4 * size, dtype)
        w_h = orthogonal(key_h, window * size, 4, dtype, columns=size)
        return ConvLSTMParams(
            w_x=w_x.reshape(*self.kernel, self.input_size, 4 * size),
            w_h=w_h.reshape(*self.kernel, size, 4 * size),
            b=jnp.zeros(4 * size, dtype).at[size : 2 * size].set(self.forget_bias),
        )

    def initial_carry(
        self, params: ConvLSTMParams, batch_shape: tuple[int, ...] = ()
    ) -> LSTMCarry:
        shape = (*batch_shape, *self.spatial_shape)
        return LSTMCarry(
            h=zeros(params, shape, self.hidden_size),
            c=zeros(params, shape, self.hidden_size),
        )

    def project(self, params: ConvLSTMParams, x: Array) -> Array:
        return convolve(x, params.w_x)

    def mix(self, params: ConvLSTMParams, carry: LSTMCarry) -> Array:
        return convolve(carry.h, params.w_h) + across(params.b, carry.h)

    def gate(
        self, params: ConvLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> tuple[LSTMCarry, Array]:
        i, f, g, o = squash(u + r, "sigmoid", "sigmoid", "tanh", "sigmoid")
        c = f * carry.c + i * g
        h = o * jnp.tanh(c)
        return LSTMCarry(h, c), h

    def gates(
        self, params: ConvLSTMParams, carry: LSTMCarry, u: Array, r: Array
    ) -> dict[str, Array]:
        i, f, _, o = squash(u + r, "sigmoid", "sigmoid", "tanh", "sigmoid")
        return {"input": i, "forget": f, "output": o}


def convolve(x: Array, w: Array) -> Array:
    """x `[..., *space, C]` with w `[*kernel, C, N]` to `[..., *space, N]`, as XLA has it:
    turned round neither in space nor in the kernel, with zeros outside of space."""
    axes = w.ndim - 2
    space = AXES[:axes][::-1]
    leading = x.shape[: x.ndim - axes - 1]
    last = max(0, len(leading) - 1)
    # XLA knows one axis of batch. An array that a mesh has cut over its batch lies in one
    # piece in the merged axis only if the axis that is cut comes before time.
    x = jnp.moveaxis(x, 0, last) if last else x
    merged = x.reshape(math.prod(leading), *x.shape[len(leading) :])
    dtype = jnp.result_type(x, w)
    y = jax.lax.conv_general_dilated(
        merged.astype(dtype),
        w.astype(dtype),
        window_strides=(1,) * axes,
        padding="SAME",
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
    )
    y = y.reshape(*x.shape[: len(leading)], *y.shape[1:])
    return jnp.moveaxis(y, last, 0) if last else y

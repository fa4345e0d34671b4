"""Products of matrices in a dtype of their own, for the dense layers of a model."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from jax import Array
from jax.lax import DotDimensionNumbers

from jaxrnn.strategies.products import in_one_axis, turned

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Products:
    """`jax.lax.dot_general` that multiplies in `dtype`.

    With "bfloat16" both sides are rounded to it, and the result is as wide as the left side
    was; so are their gradients. With "float32" nothing is rounded: a product is what it is
    without it. Flax's layers take one as their `dot_general`. Raises ValueError for another
    dtype.
    """

    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise ValueError(
                f"precision must be {' or '.join(map(repr, get_args(Dtype)))}, got "
                f"{self.dtype!r}"
            )

    def __call__(
        self, xs: Array, w: Array, dimension_numbers: DotDimensionNumbers, **named: Any
    ) -> Array:
        named |= {"dimension_numbers": dimension_numbers}
        if self.dtype == "float32":
            return in_one_axis(xs, w, **named)
        narrow = xs.astype(self.dtype), turned(w.astype(self.dtype))
        return in_one_axis(*narrow, **named).astype(xs.dtype)

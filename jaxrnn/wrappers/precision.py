"""The dtypes of products and carry, apart from that of the parameters."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Cell
from jaxrnn.linear import Affine
from jaxrnn.wrappers.wrapper import Wrapper


@dataclass(frozen=True)
class Precision(Wrapper):
    """A cell whose products, and whose gates and carry, have dtypes of their own.

        u = project(params, x)         all in dtype `products`
        r = mix(params, carry)         all in dtype `products`
        gate(params, carry, u, r)      all in dtype `carry`, y too

    The parameters keep the dtype that `init` was given; so do their gradients.
    `Precision(cell, "bfloat16")` multiplies in bfloat16 and keeps float32 gates and
    carry; with bfloat16 parameters, `Precision(cell, carry="float32")` keeps a float32
    carry. None is the parameters' dtype. x may have any real floating dtype. Params are
    the cell's, complex ones are left alone. Of a linear cell `project` is in `products` and
    `read` in `carry`, while a and b keep float32 or wider. A cell that neither splits nor
    is linear, such as an MLSTM, has `project` in `products` and its recurrence in `carry`.
    Raises ValueError for a dtype that is not floating.
    """

    cell: Cell
    products: str | None = None
    carry: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("products", "carry"):
            dtype = getattr(self, field)
            if dtype is not None:
                object.__setattr__(self, field, _floating(field, dtype))

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Any:
        return self.cell.init(key, dtype)

    def initial_carry(self, params: Any, batch_shape: tuple[int, ...] = ()) -> Any:
        return _cast(self.cell.initial_carry(params, batch_shape), self.carry)

    def with_noise(
        self, params: Any, key: Array, length: int, batch_shape: tuple[int, ...] = ()
    ) -> Any:
        return self.cell.with_noise(params, key, length, batch_shape)

    def of_rows(self, params: Any) -> Any:
        return self.cell.of_rows(params)

    def prepare(self, params: Any, xs: Array) -> tuple[Any, Any]:
        # Narrowed before the loop: what the derivative adds up after it is wide.
        narrow = _cast(params, self.products)
        return self.cell.prepare(narrow, _cast(xs, _dtype(narrow)))

    def widen(self, carry: Any) -> Any:
        return self.cell.widen(carry) if self.carry is None else carry

    def project(self, params: Any, x: Any) -> Any:
        u = self.cell.project(params, x)
        if not self.cell.linear:
            return u
        a, b, rest = self._linear_cell.affine(params, u)
        with jax.numpy_dtype_promotion("standard"):
            wide = jnp.promote_types(a.dtype, self.carry or a.dtype)
        return Affine(a.astype(wide), b.astype(wide), rest)

    def mix(self, params: Any, carry: Any) -> Any:
        return self.cell.mix(params, _cast(carry, _dtype(params)))

    def gate(self, params: Any, carry: Any, u: Any, r: Any) -> tuple[Any, Array]:
        params, u, r = _cast((params, u, r), _dtype(carry))
        return self.cell.gate(params, carry, u, r)

    def recur(self, params: Any, carry: Any, u: Any) -> tuple[Any, Array]:
        if self.splits:
            return super().recur(params, carry, u)
        if not self.linear:
            params, u = _cast((params, u), _dtype(carry))
            return self.cell.recur(params, carry, u)
        carry = self.pack(u.a * self.unpack(carry) + u.b, like=carry)
        return carry, self.read(params, carry, u.rest)

    @property
    def chunks(self) -> bool:
        return self.cell.chunks

    def chunk(
        self, params: Any, start: Any, carry: Any, us: Any, mask: Any, reset: Any
    ) -> tuple[Any, Array]:
        params, us = _cast((params, us), _dtype(carry))
        return self.cell.chunk(params, start, carry, us, mask, reset)

    @property
    def linear(self) -> bool:
        return self.cell.linear

    def affine(self, params: Any, u: Affine) -> Affine:
        return u

    def read(self, params: Any, carry: Any, rest: Any) -> Array:
        params, rest = _cast((params, rest), _dtype(carry))
        return self._linear_cell.read(params, carry, rest)

    @property
    def _linear_cell(self) -> Any:
        """A `LinearCell`, or a wrapper that has its methods."""
        return self.cell

    def gates(self, params: Any, carry: Any, u: Any, r: Any) -> dict[str, Array]:
        params, u, r = _cast((params, u, r), _dtype(carry))
        return self.cell.gates(params, carry, u, r)


def _cast(tree: Any, dtype: str | None) -> Any:
    """The real floating leaves in `dtype` (None: as they are), the others untouched."""

    def cast(leaf: Array) -> Array:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return tree if dtype is None else jax.tree.map(cast, tree)


def _dtype(tree: Any) -> str:
    """The dtype of the first real floating leaf."""
    return next(
        leaf.dtype.name
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    )


def _floating(field: str, dtype: DTypeLike) -> str:
    """The name of `dtype`, so that a Precision prints, compares and saves as JSON."""
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in ("bfloat16", "float16", "float32", "float64"):
        raise ValueError(f"Precision needs a floating dtype for {field}, got {dtype!r}")
    return name

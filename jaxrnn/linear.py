"""What a linear recurrence is: a cell whose carry enters a step as `a * h + b` alone."""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.arrays import widen, zeros
from jaxrnn.cell import Carry, Cell, Params, exportable


@exportable
class Affine(NamedTuple):
    """What needs no past of the step h' = a h + b."""

    a: Array  # [..., N]  float32 or wider, complex where the recurrence is
    b: Array  # [..., N]
    rest: Any = None  # what else `read` takes


class LinearCell(Cell[Params, Carry]):
    """A cell whose past enters only through h' = a h + b, elementwise.

    A step then is a function h -> a h + b, two of them in sequence are one more, and the
    `associative` strategy composes them for all time steps in parallel. `project` returns
    an `Affine`, so that the loop of the other strategies has nothing else to do.

    a, b and h have float32 or wider within a call, because a decay of 0.999 is 1 in
    bfloat16; the carry between calls and y have the dtype of the parameters.
    """

    @property
    def linear(self) -> bool:
        return True

    @abc.abstractmethod
    def project(self, params: Params, x: Array) -> Affine:
        """x `[..., D]` to a, b `[..., N]` and what else `read` takes."""

    def affine(self, params: Params, u: Affine) -> Affine:
        """a, b and rest of the steps that `project` gave u of; a wrapper changes them."""
        return u

    @abc.abstractmethod
    def unpack(self, carry: Carry) -> Array:
        """The carry as h `[..., N]`, in float32 or wider."""

    @abc.abstractmethod
    def pack(self, h: Array, like: Carry) -> Carry:
        """h as a carry in the dtype of the carry `like`; undoes `unpack`."""

    @abc.abstractmethod
    def read(self, params: Params, carry: Carry, rest: Any) -> Array:
        """y from the carry after the step and `project`'s rest."""

    def recur(self, params: Params, carry: Carry, u: Affine) -> tuple[Carry, Array]:
        carry = self.pack(u.a * self.unpack(carry) + u.b, like=carry)
        return carry, self.read(params, narrow(carry, params), u.rest)

    def gates(self, params: Params, carry: Carry, u: Affine, r: None) -> dict[str, Array]:
        return {"forget": jnp.abs(u.a)}


def narrow(carry: Carry, params: Any) -> Carry:
    """What a cell widened, in the dtype of `params` again."""
    dtype = jax.tree.leaves(params)[0].dtype
    return jax.tree.map(
        lambda leaf: leaf if leaf.dtype == dtype else leaf.astype(dtype), carry
    )


@exportable
class LinearCarry(NamedTuple):
    h: Array  # [..., H]


class RealLinearCell(LinearCell[Params, LinearCarry]):
    """A linear cell with real h `[..., H]`, which is also its output; h starts at zero."""

    def initial_carry(
        self, params: Params, batch_shape: tuple[int, ...] = ()
    ) -> LinearCarry:
        return LinearCarry(zeros(params, batch_shape, self.hidden_size))

    def unpack(self, carry: LinearCarry) -> Array:
        return widen(carry.h)

    def pack(self, h: Array, like: LinearCarry) -> LinearCarry:
        return LinearCarry(h.astype(like.h.dtype))

    def read(self, params: Params, carry: LinearCarry, rest: None) -> Array:
        return carry.h

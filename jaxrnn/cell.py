"""What a recurrence and a cell are.

A cell is three pure functions of its parameters:

    project(params, x)         -> u         what needs no past: all time steps at once
    mix(params, carry)         -> r         what the past contributes: one product
    gate(params, carry, u, r)  -> carry, y  elementwise arithmetic

    recur = gate after mix                  step = recur after project

The axis legend of the whole package: `T` time, `D` input features, `H` hidden units,
`...` any number of batch axes, `V` vocabulary. `x` is one time step `[..., D]` and
`xs` all of them `[T, ..., D]`; the same holds for `u`/`us` and `y`/`ys`.
"""

import abc
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.export
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import widen
from jaxrnn.constants import check_size
from jaxrnn.entry import CHECKED, checked

Params = TypeVar("Params")
Carry = TypeVar("Carry")
Tuple = TypeVar("Tuple", bound=tuple)

# How a composition runs one of its parts over all of time; `unroll` hands it over with
# the masks, resets, direction and strategy of the call inside; `against=True` runs the
# part the other way round in time.
Run = Callable[..., tuple[Any, Array]]


class Recurrence(abc.ABC, Generic[Params, Carry]):
    """Anything `unroll` takes over time: a cell, or a composition of recurrences.

    The instance holds sizes and other constants, never arrays, and every method is a
    pure function of its arguments. Subclasses are frozen dataclasses: they print,
    compare and hash by value, and are static arguments of `jax.jit`.
    """

    input_size: int  # D

    def __init_subclass__(cls, **options: Any) -> None:
        """What people call takes what fits and refuses the rest, in every subclass."""
        super().__init_subclass__(**options)
        for name in CHECKED:
            if name in vars(cls):
                setattr(cls, name, checked(name, vars(cls)[name]))

    @property
    @abc.abstractmethod
    def output_size(self) -> int:
        """The number of features of `y`."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The last axes of `x`, its features: `(D,)`, unless they lie in space as well."""
        return (self.input_size,)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The last axes of `y`, likewise."""
        return (self.output_size,)

    @abc.abstractmethod
    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        """Draws fresh parameters of type `dtype` from `key`."""

    @abc.abstractmethod
    def initial_carry(self, params: Params, batch_shape: tuple[int, ...] = ()) -> Carry:
        """The carry before the first step of a sequence, of the parameters' dtype."""

    @abc.abstractmethod
    def step(self, params: Params, carry: Carry, x: Array) -> tuple[Carry, Array]:
        """One time step: x `[..., D]` to the next carry and y `[..., output_size]`."""

    def with_noise(
        self, params: Params, key: Array, length: int, batch_shape: tuple[int, ...] = ()
    ) -> Params:
        """The params with noise for one pass over xs `[length, *batch_shape, D]`.

        Parameters without noise, as `init` gives them, are those of evaluation. A
        recurrence that knows no noise returns them unchanged.
        """
        return params

    def of_rows(self, params: Params) -> Any:
        """Which leaves of the params are `[rows, ...]` of one batch, such as noise and a
        memory that is read: a tree of bools."""
        return jax.tree.map(lambda _: False, params)


class Composition(Recurrence[tuple, tuple]):
    """A recurrence made of recurrences, which runs them one after the other.

    Its params and its carry are tuples of its parts'; params of its own come last.
    """

    def __post_init__(self) -> None:
        for part in self.parts:
            if not isinstance(part, Recurrence):
                raise ValueError(
                    f"{type(self).__name__} is made of recurrences, got {part!r}"
                )

    @property
    @abc.abstractmethod
    def parts(self) -> tuple[Recurrence, ...]:
        """The recurrences it is made of; the first one takes the inputs."""

    @abc.abstractmethod
    def over_time(
        self, run: Run, params: tuple, carry: tuple, xs: Array
    ) -> tuple[tuple, Array]:
        """Runs the parts over all of time, each by one call of
        `run(part, params, carry, xs, against=False) -> (carry, ys)`."""

    @property
    def input_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.parts[0].input_size

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (*self.parts[0].input_shape[:-1], self.input_size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (*self.parts[-1].output_shape[:-1], self.output_size)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple:
        keys = jax.random.split(key, len(self.parts))
        parts = zip(self.parts, keys, strict=True)
        return tuple(part.init(key, dtype) for part, key in parts)

    def initial_carry(self, params: tuple, batch_shape: tuple[int, ...] = ()) -> tuple:
        parts = zip(self.parts, params, strict=False)
        return tuple(part.initial_carry(own, batch_shape) for part, own in parts)

    def with_noise(
        self, params: tuple, key: Array, length: int, batch_shape: tuple[int, ...] = ()
    ) -> tuple:
        keys = jax.random.split(key, len(self.parts))
        noisy = (
            part.with_noise(part_params, key, length, batch_shape)
            for part, part_params, key in zip(self.parts, params, keys, strict=False)
        )
        return (*noisy, *params[len(self.parts) :])

    def of_rows(self, params: tuple) -> tuple:
        inner = (part.of_rows(own) for part, own in zip(self.parts, params, strict=False))
        return (*inner, *super().of_rows(params)[len(self.parts) :])


class Cell(Recurrence[Params, Carry]):
    """A recurrence that is one step, repeated.

    A subclass is a frozen dataclass with fields `input_size` and `hidden_size` that
    defines `init`, `initial_carry`, `project`, and either `mix` and `gate` (then the
    fast strategies serve it) or, where the recurrence does not split, `recur` itself.
    """

    hidden_size: int  # H

    def __post_init__(self) -> None:
        check_size(self, "input_size")
        check_size(self, "hidden_size")

    @property
    def output_size(self) -> int:
        return self.hidden_size

    @property
    def splits(self) -> bool:
        """Whether `recur` is `gate` after `mix`, which the `fused` strategy needs."""
        return type(self).recur is Cell.recur

    @property
    def shares_units(self) -> bool:
        """Whether devices can share its units: `mix` is a product of all of h, the rest is
        each unit's own, and every parameter ends in an axis of units, gate by gate."""
        return False

    @property
    def linear(self) -> bool:
        """Whether it has the form h' = a h + b, which the `associative` strategy needs: the
        methods of `jaxrnn.LinearCell`."""
        return False

    @property
    def chunks(self) -> bool:
        """Whether it has `chunk`, which the `chunkwise` strategy needs."""
        return type(self).chunk is not Cell.chunk

    @property
    def core(self) -> "Cell":
        """The cell inside whose run over time is all the work: another than itself for a
        wrapper that only changes the call (see `Wrapper.inner_call`)."""
        return self

    def around(self, change: Callable[["Cell"], "Cell"]) -> "Cell":
        """Itself with the innermost cell replaced by `change` of it."""
        return change(self)

    def prepare(self, params: Params, xs: Array) -> tuple[Params, Any]:
        """What is done once, before the loop over xs `[T, ..., D]`: the params that steps
        share, and what each step, `project` above all, takes in, leaves `[T, ...]`."""
        return params, xs

    def widen(self, carry: Carry) -> Carry:
        """The carry as the loop over time holds it; `unroll` narrows it at the end.

        In float32 or wider, because rounding at every step would lose what a cell adds
        up. What `gate` takes beside it (or `recur`, where that does not split) is then as
        wide, so that a cell is written in one dtype.
        """
        return widen(carry)

    @abc.abstractmethod
    def project(self, params: Params, x: Any) -> Any:
        """x `[..., D]` to u: what of the step needs no past."""

    def mix(self, params: Params, carry: Carry) -> Any:
        """What the past contributes: the product that must wait for the carry."""
        raise NotImplementedError(f"{type(self).__name__} defines no mix")

    def gate(self, params: Params, carry: Carry, u: Any, r: Any) -> tuple[Carry, Array]:
        """The elementwise rest of the step, from `project`'s u and `mix`'s r."""
        raise NotImplementedError(f"{type(self).__name__} defines no gate")

    def gates(self, params: Params, carry: Carry, u: Any, r: Any) -> dict[str, Array]:
        """The gates of a step by name, each in [0, 1]; see `jaxrnn.diagnostics`.

        Of `gate`'s arguments; r is None for a cell that does not split. "forget" is the
        share of the memory that is kept, whatever a paper calls it. Raises ValueError for
        a cell without gates.
        """
        raise ValueError(f"{type(self).__name__} has no gates to show")

    def recur(self, params: Params, carry: Carry, u: Any) -> tuple[Carry, Array]:
        """The part of the step that looks back."""
        return self.gate(params, carry, u, self.mix(params, carry))

    def chunk(
        self,
        params: Params,
        start: Carry,
        carry: Carry,
        us: Any,
        mask: Array | None,
        reset: Array | None,
    ) -> tuple[Carry, Array]:
        """`recur` for the steps of one block at once, to the last carry and all ys.

        us `[L, ...]` are outputs of `project`. A masked step holds the carry, whatever
        its y; the carry becomes `start` before a step that is reset.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no chunk")

    def step(self, params: Params, carry: Carry, x: Array) -> tuple[Carry, Array]:
        params, x = self.prepare(params, x)
        return self.recur(params, carry, self.project(params, x))


def exportable(kind: type[Tuple]) -> type[Tuple]:
    """Lets `jax.export` write and read a NamedTuple, such as params and carries are.

    A decorator. The name it has in what is written is that of the package and of the
    class, so neither may change, though the module may. Raises ValueError for a name
    that a class of the package has already.
    """
    name = f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
    return jax.export.register_namedtuple_serialization(kind, serialized_name=name)

"""Attention over a memory, and the recurrences that attend to one.

A memory enters a recurrence the way noise does, as data in its params:
`recurrence.reading(params, memory)` are the params of a pass over time, and `unroll` and
`step` take them like any others.
"""

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.arrays import across, zeros
from jaxrnn.cell import Cell, Composition, Recurrence, Run, exportable
from jaxrnn.cells.initial import lecun_normal
from jaxrnn.strategies.select import select


@exportable
class Memory(NamedTuple):
    """What is read from, S entries for each row of the batch."""

    values: Array  # [..., S, M]
    keys: Array  # [..., S, A]  what a query is compared with
    bias: Array  # [..., S]  0 for a valid entry, else so low that it is never chosen


@dataclass(frozen=True)
class Attention(abc.ABC):
    """A weighted mean of a memory's values, the weights a softmax of scores.

        weights = softmax_s(score(query, memory_s))         context = sum_s weights_s m_s

    queries `[..., query_size]`, values `[..., S, memory_size]`; axes before the batch
    axes of the memory are broadcast, so that one call serves all time steps.
    """

    query_size: int
    memory_size: int

    @abc.abstractmethod
    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Any:
        """Draws fresh parameters."""

    @abc.abstractmethod
    def keys(self, params: Any, values: Array) -> Array:
        """What of the scores needs no query: `[..., S, A]`, computed once a memory."""

    @abc.abstractmethod
    def scores(self, params: Any, keys: Array, query: Array) -> Array:
        """`[..., S]`."""

    def remember(self, params: Any, values: Array, mask: Array) -> Memory:
        """The memory of values `[..., S, M]`, those with a `mask` `[..., S]` of True.

        What an entry that is not valid holds, NaN included, is never read.
        """
        values = select(mask, values, jnp.zeros_like(values))
        bias = jnp.where(mask, 0, jnp.finfo(values.dtype).min / 2).astype(values.dtype)
        return Memory(values, self.keys(params, values), bias)

    def weights(self, params: Any, memory: Memory, query: Array) -> Array:
        """`[..., S]`, with a sum of 1."""
        scores = self.scores(params, memory.keys, query)
        return jax.nn.softmax(scores + across(memory.bias, scores))

    def read(self, params: Any, memory: Memory, query: Array) -> Array:
        """The context `[..., M]`."""
        weights = self.weights(params, memory, query)
        return jnp.einsum("...s,...sm->...m", weights, memory.values)


@exportable
class AdditiveParams(NamedTuple):
    w_q: Array  # [Q, A]
    w_m: Array  # [M, A]
    b: Array  # [A]
    v: Array  # [A]


@dataclass(frozen=True)
class Additive(Attention):
    """Additive scores (Bahdanau et al. 2015).

    score(q, m) = v . tanh(q W_q + m W_m + b)
    """

    size: int  # A

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> AdditiveParams:
        key_q, key_m, key_v = jax.random.split(key, 3)
        return AdditiveParams(
            w_q=lecun_normal(key_q, self.query_size, self.size, dtype),
            w_m=lecun_normal(key_m, self.memory_size, self.size, dtype),
            b=jnp.zeros(self.size, dtype),
            v=lecun_normal(key_v, self.size, 1, dtype)[:, 0],
        )

    def keys(self, params: AdditiveParams, values: Array) -> Array:
        return values @ params.w_m + across(params.b, values)

    def scores(self, params: AdditiveParams, keys: Array, query: Array) -> Array:
        asked = (query @ params.w_q)[..., None, :]
        return jnp.tanh(asked + across(keys, asked)) @ params.v


@exportable
class MultiplicativeParams(NamedTuple):
    w: Array  # [M, Q]


@dataclass(frozen=True)
class Multiplicative(Attention):
    """Multiplicative scores ("general" in Luong et al. 2015).

    score(q, m) = q . (m W)
    """

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> MultiplicativeParams:
        return MultiplicativeParams(
            lecun_normal(key, self.memory_size, self.query_size, dtype)
        )

    def keys(self, params: MultiplicativeParams, values: Array) -> Array:
        return values @ params.w

    def scores(self, params: MultiplicativeParams, keys: Array, query: Array) -> Array:
        return jnp.einsum("...q,...sq->...s", query, keys)


@dataclass(frozen=True)
class Whole(Attention):
    """No choice at all: a memory of one entry, read whole (Cho et al. 2014)."""

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple[()]:
        return ()

    def keys(self, params: tuple[()], values: Array) -> Array:
        return values[..., :0]

    def scores(self, params: tuple[()], keys: Array, query: Array) -> Array:
        return jnp.zeros(keys.shape[:-1], keys.dtype)


@exportable
class AttendingParams(NamedTuple):
    cell: Any
    attention: Any
    memory: Memory | None  # data of one pass over time, never trained


@dataclass(frozen=True)
class Attending(Recurrence[Any, Any]):
    """A recurrence around another that reads a memory at every step.

    x `[..., D]`, output `[y, context]` `[..., H + M]`. Raises ValueError if the sizes of
    its parts do not fit, or if the params of a pass have no memory.
    """

    cell: Recurrence
    attention: Attention

    def __post_init__(self) -> None:
        if self.attention.query_size != self.cell.output_size:
            raise ValueError(
                f"{self.attention} is asked with {self.attention.query_size} features, "
                f"{self.cell} gives {self.cell.output_size}"
            )
        if self.input_size < 1:
            raise ValueError(
                f"{self.cell} has no room beside the {self.attention.memory_size}"
                " features read"
            )

    @property
    def output_size(self) -> int:
        return self.cell.output_size + self.attention.memory_size

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> AttendingParams:
        key_cell, key_attention = jax.random.split(key)
        return AttendingParams(
            cell=self.cell.init(key_cell, dtype),
            attention=self.attention.init(key_attention, dtype),
            memory=None,
        )

    def with_noise(
        self, params: Any, key: Array, length: int, batch_shape: tuple[int, ...] = ()
    ) -> AttendingParams:
        cell, attention, memory = params
        noisy = self.cell.with_noise(cell, key, length, batch_shape)
        return AttendingParams(noisy, attention, memory)

    def of_rows(self, params: Any) -> AttendingParams:
        memory = jax.tree.map(lambda _: True, params[2])
        shared = super().of_rows(params)[1]
        return AttendingParams(self.cell.of_rows(params[0]), shared, memory)

    def reading(self, params: Any, memory: Memory) -> AttendingParams:
        """The params of a pass over time that reads `memory`."""
        cell, attention, _ = params
        return AttendingParams(cell, attention, memory)

    def weights(self, params: Any, carry: Any, ys: Array) -> Array:
        """`[T, ..., S]`: where the steps from `carry` with outputs `ys` looked."""
        _, attention, memory = params
        queries = self.queries(carry, ys[..., : self.cell.output_size])
        return self.attention.weights(attention, memory, queries)

    @abc.abstractmethod
    def queries(self, carry: Any, ys: Array) -> Array:
        """What the steps from `carry` asked with, whose cell gave `ys` `[T, ..., H]`."""

    def read(self, params: Any, query: Array) -> Array:
        """The context of `query`."""
        _, attention, memory = params
        if memory is None:
            raise ValueError("nothing to attend to: reading() puts a memory into params")
        return self.attention.read(attention, memory, query)


@exportable
class AttendBeforeCarry(NamedTuple):
    cell: Any
    y: Array  # [..., H]  the cell's output before, which is the next query


@dataclass(frozen=True)
class AttendBefore(Attending, Cell[Any, AttendBeforeCarry]):
    """Reads before each step, and the step sees it (Bahdanau et al. 2015).

        context = attention(query = y of the step before)
        y = cell([x, context])                                       output = [y, context]

    The cell, which may be a Stack, takes D + M features. It steps within the loop, so noise
    that differs from step to step, such as Zoneout's, raises its ValueError.
    """

    @property
    def input_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cell.input_size - self.attention.memory_size

    @property
    def hidden_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cell.output_size

    def initial_carry(
        self, params: Any, batch_shape: tuple[int, ...] = ()
    ) -> AttendBeforeCarry:
        return AttendBeforeCarry(
            self.cell.initial_carry(params.cell, batch_shape),
            zeros(params.cell, batch_shape, self.hidden_size),
        )

    def project(self, params: Any, x: Array) -> Array:
        return x

    def recur(
        self, params: Any, carry: AttendBeforeCarry, u: Array
    ) -> tuple[AttendBeforeCarry, Array]:
        context = self.read(params, carry.y)
        x = jnp.concatenate([u, context], axis=-1)
        inner, y = self.cell.step(params.cell, carry.cell, x)
        return AttendBeforeCarry(inner, y), jnp.concatenate([y, context], axis=-1)

    def queries(self, carry: AttendBeforeCarry, ys: Array) -> Array:
        return jnp.concatenate([carry.y[None], ys[:-1]])


@dataclass(frozen=True)
class AttendAfter(Attending, Composition):
    """Reads after each step (global attention: Luong et al. 2015).

        y = cell(x)            context = attention(query = y)        output = [y, context]

    The context is not fed to the next step, so the cell runs over all of time before
    anything is read.
    """

    @property
    def parts(self) -> tuple[Recurrence, ...]:
        return (self.cell,)

    def over_time(
        self, run: Run, params: tuple, carry: tuple, xs: Array
    ) -> tuple[tuple, Array]:
        after, ys = run(self.cell, params[0], carry[0], xs)
        return (after,), jnp.concatenate([ys, self.read(params, ys)], axis=-1)

    def step(self, params: tuple, carry: tuple, x: Array) -> tuple[tuple, Array]:
        after, y = self.cell.step(params[0], carry[0], x)
        return (after,), jnp.concatenate([y, self.read(params, y)], axis=-1)

    def queries(self, carry: tuple, ys: Array) -> Array:
        return ys

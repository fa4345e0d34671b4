"""Noise that regularises a recurrence: drawn outside the loop, held by the params.

    noisy = recurrence.with_noise(params, key, length, batch_shape)
    carry, ys = jaxrnn.unroll(recurrence, noisy, xs)

Params without noise, as `init` gives them, are those of evaluation. Inside a loss the
gradient is that of the params without noise. `jaxrnn.flax.RNN` and the models draw it
where they are called with a key.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Cell, Recurrence, across, check_number, check_numbers, exportable
from jaxrnn.connections import Around
from jaxrnn.slower import Slower
from jaxrnn.slstm import SLSTM
from jaxrnn.wrapper import Wrapper, cells_of


def noise_key(key: Array | None) -> Array | None:
    """The key of a recurrence's noise, apart from all else that is drawn from `key`."""
    # The last of the numbers there are: no split and no mask of dropout counts so far.
    return None if key is None else jax.random.fold_in(key, 2**32 - 1)


@exportable
class ZoneoutParams(NamedTuple):
    cell: Any
    masks: tuple[Array | None, ...] | None  # bool [T, *leaf], one a leaf; True holds


@dataclass(frozen=True)
class Zoneout(Wrapper):
    """Zoneout: units that keep their value for a step, at random (Krueger et al. 2017).

        training      carry' = where(mask_t, carry, cell's carry')
        evaluation    carry' = rate carry + (1 - rate) cell's carry'
        y = the leaf of carry' that is the cell's y

    Each leaf of the carry has bits of its own for every step, row and unit, True with
    probability `rate`: one number, or one for each leaf in order (an LSTM's h, then c).
    `with_noise` draws them for xs `[T, ..., D]` of that very shape. Raises ValueError if
    a rate is outside [0, 1), if there are not as many rates as leaves, if xs has another
    shape than the noise (so noisy params do not step), if the cell's output is not a leaf
    of its carry, or for an SLSTM, whose c and n are in units of exp(m), and a Slower,
    whose age is a count: their carries do not mix with those before, number by number.
    """

    cell: Cell
    rate: float | tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rates(self)
        for cell in cells_of(self.cell):
            if isinstance(cell, SLSTM | Slower):
                raise ValueError(
                    f"Zoneout cannot hold single numbers of the carry of {cell}, which "
                    "mean something only together"
                )

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> ZoneoutParams:
        return ZoneoutParams(self.cell.init(key, dtype), masks=None)

    def with_noise(
        self,
        params: ZoneoutParams,
        key: Array,
        length: int,
        batch_shape: tuple[int, ...] = (),
    ) -> ZoneoutParams:
        key, inner_key = jax.random.split(key)
        params = super().with_noise(params, inner_key, length, batch_shape)
        leaves = self._leaves(params, batch_shape)
        keys = jax.random.split(key, len(leaves))
        masks = tuple(
            jax.random.bernoulli(key, rate, (length, *leaf.shape)) if rate else None
            for key, leaf, rate in zip(keys, leaves, self._rates(leaves), strict=True)
        )
        return params._replace(masks=masks)

    def prepare(self, params: ZoneoutParams, xs: Array) -> tuple[ZoneoutParams, Any]:
        masks = params.masks
        if masks is not None:
            self._check_fits(masks, self._leaves(params), xs)
        params, inputs = super().prepare(params, xs)
        return params._replace(masks=None), (inputs, masks)

    def project(self, params: ZoneoutParams, x: tuple[Any, Any]) -> tuple[Any, Any]:
        x, masks = x
        return super().project(params, x), masks

    def gate(
        self, params: ZoneoutParams, carry: Any, u: tuple[Any, Any], r: Any
    ) -> tuple[Any, Array]:
        u, masks = u
        return self._hold(masks, carry, *super().gate(params, carry, u, r))

    def recur(
        self, params: ZoneoutParams, carry: Any, u: tuple[Any, Any]
    ) -> tuple[Any, Array]:
        if self.splits:
            return super().recur(params, carry, u)
        u, masks = u
        return self._hold(masks, carry, *super().recur(params, carry, u))

    def _hold(self, masks: Any, carry: Any, after: Any, y: Array) -> tuple[Any, Array]:
        before = jax.tree.leaves(carry)
        leaves, structure = jax.tree.flatten(after)
        outputs = [i for i, leaf in enumerate(leaves) if leaf is y]
        if not outputs:
            raise ValueError(
                f"{self} cannot hold its output: that of {type(self.cell).__name__} is "
                "not a leaf of its carry"
            )
        rates = self._rates(leaves)
        if masks is None:
            held = [
                rate * old + (1 - rate) * new
                for rate, old, new in zip(rates, before, leaves, strict=True)
            ]
        else:
            held = [
                new if mask is None else jnp.where(mask, old, new)
                for mask, old, new in zip(masks, before, leaves, strict=True)
            ]
        return jax.tree.unflatten(structure, held), held[outputs[0]]

    def _check_fits(self, masks: tuple, leaves: list, xs: Array) -> None:
        for mask, leaf in zip(masks, leaves, strict=True):
            if mask is not None and mask.shape != (*xs.shape[:-1], *leaf.shape):
                raise ValueError(
                    f"the noise of {self} was drawn for other xs: its mask is "
                    f"{list(mask.shape)}, xs {list(xs.shape)}; draw it for the length "
                    "and batch of xs, and step with params without noise"
                )

    def _leaves(self, params: ZoneoutParams, batch_shape: tuple[int, ...] = ()) -> list:
        """The shapes of the carry's leaves."""
        carry = jax.eval_shape(lambda p: self.initial_carry(p, batch_shape), params)
        return jax.tree.leaves(carry)

    def _rates(self, leaves: list) -> tuple[float, ...]:
        rates = self.rate
        if not isinstance(rates, tuple):
            return (rates,) * len(leaves)
        if len(rates) != len(leaves):
            raise ValueError(
                f"{self} gives {len(rates)} rates for a carry of {len(leaves)} leaves"
            )
        return rates

    def gates(
        self, params: ZoneoutParams, carry: Any, u: tuple[Any, Any], r: Any
    ) -> dict[str, Array]:
        return super().gates(params, carry, u[0], r)


@exportable
class VariationalDropoutParams(NamedTuple):
    cell: Any
    mask: Array | None  # [*batch, H]  0 where dropped, 1 / (1 - rate) where kept


@dataclass(frozen=True)
class VariationalDropout(Wrapper):
    """Dropout of the recurrent connections, the same at every step (Gal & Ghahramani 2016).

        r = cell's mix(carry with h mask)       mask = 0 or 1 / (1 - rate)

    One mask a row and unit serves all gates of all steps (the paper's tied weights); the
    carry itself is untouched. Raises ValueError if `rate` is outside [0, 1), the cell
    does not split into mix and gate, or its carry has no field `h`.
    """

    cell: Cell
    rate: float
    needs_split = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "rate")
        _check_rates(self)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> VariationalDropoutParams:
        return VariationalDropoutParams(self.cell.init(key, dtype), mask=None)

    def with_noise(
        self,
        params: VariationalDropoutParams,
        key: Array,
        length: int,
        batch_shape: tuple[int, ...] = (),
    ) -> VariationalDropoutParams:
        key, inner_key = jax.random.split(key)
        params = super().with_noise(params, inner_key, length, batch_shape)
        carry = jax.eval_shape(lambda p: self.initial_carry(p, batch_shape), params)
        if not hasattr(carry, "h"):
            raise ValueError(
                f"{self} drops the field h of a carry, which {type(carry).__name__} of "
                f"{type(self.cell).__name__} does not have"
            )
        ones = jnp.ones(carry.h.shape, carry.h.dtype)
        return params._replace(mask=_drop(key, self.rate, ones))

    def mix(self, params: VariationalDropoutParams, carry: Any) -> Any:
        if params.mask is None:
            return super().mix(params, carry)
        mask = jax.lax.stop_gradient(params.mask)
        if mask.shape != carry.h.shape[-mask.ndim :]:
            raise ValueError(
                f"the noise of {self} was drawn for another batch: its mask is "
                f"{list(mask.shape)}, h {list(carry.h.shape)}"
            )
        return super().mix(params, carry._replace(h=carry.h * across(mask, carry.h)))


@dataclass(frozen=True)
class WeightDrop(Around):
    """Dropout of the recurrent weights, the same at every step (Merity et al. 2018).

        w_h = w_h mask       mask = 0 or 1 / (1 - rate)       y = cell's y

    `with_noise` drops entries of every leaf named `w_h` in the params of `cell`, any
    recurrence. Params and carry are one-tuples of the cell's. Raises ValueError if
    `rate` is outside [0, 1) or no params are named w_h.
    """

    cell: Recurrence
    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "rate")
        _check_rates(self)

    def with_noise(
        self, params: tuple, key: Array, length: int, batch_shape: tuple[int, ...] = ()
    ) -> tuple:
        key, inner_key = jax.random.split(key)
        params = super().with_noise(params, inner_key, length, batch_shape)
        leaves, structure = jax.tree.flatten_with_path(params)
        recurrent = [getattr(path[-1], "name", None) == "w_h" for path, _ in leaves]
        if not any(recurrent):
            raise ValueError(f"{self} found no params named w_h to drop")
        keys = jax.random.split(key, len(leaves))
        return structure.unflatten(
            _drop(key, self.rate, leaf) if dropped else leaf
            for key, dropped, (_, leaf) in zip(keys, recurrent, leaves, strict=True)
        )


def _drop(key: Array, rate: float, values: Array) -> Array:
    """Zero with probability `rate`, else divided by 1 - rate."""
    kept = jax.random.bernoulli(key, 1 - rate, values.shape)
    return jnp.where(kept, values / (1 - rate), jnp.zeros_like(values))


def _check_rates(recurrence: Any) -> None:
    """Makes the field `rate`, one number or several, plain floats in [0, 1)."""
    check_numbers(recurrence, "rate")
    rates = recurrence.rate
    for rate in rates if isinstance(rates, tuple) else (rates,):
        if not 0 <= rate < 1:
            name = type(recurrence).__name__
            raise ValueError(f"{name} needs rates in [0, 1), got {rate!r}")

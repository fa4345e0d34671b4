"""Learning online with what each unit keeps for itself: O(M) numbers for M params."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.arrays import widen
from jaxrnn.cell import Cell
from jaxrnn.online.online import Online, flat_of, moves


class Local(Online):
    """A way that keeps of each parameter the influence on its own unit alone.

    A carry of L leaves `[H]` has H units of L numbers, and the last axis of each parameter
    that moves it, `[..., n H]`, runs over the units. The influence is L M numbers a row.
    """

    recurrence: Cell  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        if not isinstance(self.recurrence, Cell):
            raise ValueError(
                f"{type(self).__name__} takes a cell, got {self.recurrence!r}: give "
                "each of its parts one"
            )
        _check_units(self)

    def _seeds(self, flat: Array) -> Array:
        leaves, units = self._layout(flat)
        return jnp.repeat(jnp.eye(leaves, dtype=flat.dtype), units, axis=-1)

    def _layout(self, flat: Array) -> tuple[int, int]:
        params = jax.eval_shape(self.recurrence.init, jax.random.key(0))
        carry = jax.eval_shape(self.recurrence.initial_carry, params)
        shapes = {leaf.shape for leaf in jax.tree.leaves(carry) if moves(leaf)}
        if len(shapes) != 1 or len(*shapes) != 1:
            raise ValueError(
                f"{type(self).__name__} needs a carry of leaves [H], all of one size, "
                f"which {self.recurrence} does not have"
            )
        ((units,),) = shapes
        return flat.size // units, units

    def _through(self, flat_bar: Array, influence: Array) -> Array:
        by_leaf = flat_bar.reshape(self._layout(flat_bar))
        return jnp.sum(_by_unit(by_leaf, influence) * influence, axis=0)

    def _move(
        self, params: Any, carry: Any, influence: Any, x: Array
    ) -> tuple[Any, Any, Array]:
        after, y, pull = self._vjp(params, carry, x)
        flat = flat_of(carry)
        layout = self._layout(flat)
        direct, sums = jax.vmap(lambda seed: pull((seed, jnp.zeros_like(y))))(
            self._seeds(flat)
        )
        own = self._own(pull, y, sums, layout).reshape(layout[0], *layout)

        def moved(direct: Array, influence: Array) -> Array:
            kept = jax.vmap(lambda own: self._through(own.ravel(), influence))(own)
            return direct + kept

        return after, jax.tree.map(moved, widen(direct), influence), y

    @abc.abstractmethod
    def _own(self, pull: Callable, y: Array, sums: Array, layout: tuple[int, int]) -> Array:
        """How each unit moves by itself: `[L, L H]`, of every leaf after by every number
        before. `sums` are the columns of the Jacobian, added up leaf by leaf."""


@dataclass(frozen=True)
class Diagonal(Local):
    """Real-time recurrent learning of each unit by itself (SnAp-1: Menick et al. 2021).

        J' = own(d carry' / d carry) J + d carry' / d params

    own() keeps what a unit does to itself. The gradient goes through all units within the
    step that it is of, through no others before it. Exact where no unit sees another:
    `IndRNN`, `MinGRU`, `LRU`. An influence is L M numbers a row, a step takes about the
    time of L H steps. Raises ValueError for a cell whose params reach several units at
    once.
    """

    recurrence: Cell

    def _own(self, pull: Callable, y: Array, sums: Array, layout: tuple[int, int]) -> Array:
        eye = jnp.eye(sums.shape[-1], dtype=sums.dtype)
        _, jacobian = jax.vmap(lambda seed: pull((seed, jnp.zeros_like(y))))(eye)
        return jnp.einsum("lhmh->lmh", jacobian.reshape(*layout, *layout))


@dataclass(frozen=True)
class EProp(Local):
    """Learning by eligibility traces (e-prop: Bellec et al. 2020).

        J' = (d gate / d carry) J + d carry' / d params

    The recurrent connections carry no gradient: what `mix` sees is held constant, so that a
    trace fades as its own unit's memory does, and the loss at a step is told to the units
    of that step alone. An influence is L M numbers a row, a step takes a few steps' time.
    Raises ValueError for a cell that does not split and is not linear, or whose gate or
    params reach several units at once.
    """

    recurrence: Cell

    def _after(self, params: Any, carry: Any, x: Array) -> tuple[Any, Array]:
        cell = self.recurrence
        params, x = cell.prepare(params, x)
        u = cell.project(params, x)
        if not cell.splits:
            return cell.recur(params, carry, u)
        r = cell.mix(params, jax.lax.stop_gradient(carry))
        return cell.gate(params, carry, u, r)

    def _own(self, pull: Callable, y: Array, sums: Array, layout: tuple[int, int]) -> Array:
        return sums  # a gate mixes no units, so a column has one number of each leaf


def _by_unit(numbers: Array, influence: Array) -> Array:
    """Numbers `[L, H]`, for each entry of a parameter of influence `[L, ..., n H]`."""
    width = influence.shape[-1] if influence.ndim > 1 else 1
    if width % numbers.shape[-1]:
        return jnp.zeros_like(influence)  # a parameter of the output, by `_check_units`
    copies = jnp.tile(numbers, width // numbers.shape[-1])
    return copies.reshape(len(numbers), *(1,) * (influence.ndim - 2), width)


@lru_cache(maxsize=256)
def _check_units(online: Local) -> None:
    """Raises ValueError where a parameter reaches other units than its own within a step:
    then random weights of the units, pulled back, are not those weights times the sum."""
    cell, random = online.recurrence, np.random.default_rng(0)

    def drawn(leaf: Any) -> Any:
        return random.normal(size=leaf.shape).astype(leaf.dtype)

    @jax.jit
    def pulled(params: Any, carry: Any, x: Array, weights: Array) -> tuple[Any, Array]:
        _, y, pull = online._vjp(params, carry, x)
        seeds = online._seeds(flat_of(carry)) * weights
        return jax.vmap(lambda seed: pull((seed, jnp.zeros_like(y))))(seeds)

    with jax.ensure_compile_time_eval():
        shapes = jax.eval_shape(cell.init, jax.random.key(0))
        carry = jax.eval_shape(cell.initial_carry, shapes)
        x = jax.ShapeDtypeStruct(cell.input_shape, jnp.float32)
        given = jax.tree.map(drawn, (shapes, carry, x))
        weights = drawn(jax.eval_shape(flat_of, carry))
        layout = online._layout(weights)
        totals, sums = pulled(*given, np.ones_like(weights))
        weighted, weighted_sums = pulled(*given, weights)
        by_leaf = jnp.asarray(weights).reshape(layout)

        def differs(got: Array, want: Array) -> bool:
            return not np.allclose(got, want, atol=1e-4)

        places = jax.tree.leaves_with_path(totals)
        for (path, total), got in zip(places, jax.tree.leaves(weighted), strict=True):
            if differs(got, _by_unit(by_leaf, total) * total):
                raise ValueError(
                    f"{type(online).__name__} cannot serve {cell}: its params"
                    f"{jax.tree_util.keystr(path)} reach several units within a step"
                )
        own = sums.reshape(layout[0], *layout) * by_leaf[:, None]
        if isinstance(online, EProp) and differs(weighted_sums, own.reshape(sums.shape)):
            raise ValueError(
                f"EProp cannot serve {cell}: a unit sees others not by way of mix"
            )

"""What a way to learn online is."""

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.arrays import cast_like, widen
from jaxrnn.cell import Recurrence, exportable
from jaxrnn.entry import as_array, as_numbers, as_params, leading_shape
from jaxrnn.strategies.select import select

Pull = Callable[[Array], Any]  # d loss / d y `[..., output_size]` to a tree like the params


@exportable
class OnlineState(NamedTuple):
    carry: Any
    influence: Any  # like the params, leaves [*batch, n, *shape] in float32 or wider


class Online(abc.ABC):
    """A way to learn online. Subclasses are frozen dataclasses of one recurrence."""

    recurrence: Recurrence

    def __post_init__(self) -> None:
        if not isinstance(self.recurrence, Recurrence):
            name = type(self).__name__
            raise ValueError(f"{name} takes a recurrence, got {self.recurrence!r}")

    def init(self, params: Any, batch_shape: tuple[int, ...] = ()) -> OnlineState:
        """The state before the first step: nothing has had an influence yet, unless the
        start is learned."""
        params = as_params(self.recurrence, params)
        carry = self.recurrence.initial_carry(params, batch_shape)
        return OnlineState(carry, self._start(params, batch_shape))

    def step(
        self,
        params: Any,
        state: OnlineState,
        x: Array,
        *,
        mask: Array | None = None,
        reset: Array | None = None,
    ) -> tuple[OnlineState, Array, Pull]:
        """One step at x `[..., D]`: the next state, y, and `pull`, which makes of
        d loss / d y the gradient of the params, summed over the rows of the batch.

        mask and reset `[...]` are those of `unroll` at this step: a masked row holds its
        state, its y is zero and it has no gradient; a row that begins anew forgets the
        carry and its influence before it sees x. Raises ValueError where `unroll` would,
        and for a recurrence that does not step.
        """
        params = as_params(self.recurrence, params)
        x = as_numbers(params, x, "x")
        batch = leading_shape(self.recurrence, x)
        mask, reset = (_flags(n, f, batch) for n, f in (("mask", mask), ("reset", reset)))
        x = select(mask, x, jnp.zeros_like(x))
        if reset is not None:
            state = select(reset, self.init(params, batch), state)
        carry, influence, y = _over_rows(self._move, batch)(params, *state, x)
        after = OnlineState(cast_like(carry, state.carry), influence)

        def pull(y_bar: Array) -> Any:
            y_bar = select(mask, y_bar, jnp.zeros_like(y_bar))
            rows = _over_rows(self._pull, batch)(params, *state, x, y_bar)
            axes = tuple(range(len(batch)))
            return cast_like(jax.tree.map(lambda g: jnp.sum(g, axes), rows), params)

        return select(mask, after, state), select(mask, y, jnp.zeros_like(y)), pull

    # Of one row, without batch axes.

    def _after(self, params: Any, carry: Any, x: Array) -> tuple[Any, Array]:
        return self.recurrence.step(params, carry, x)

    def _vjp(self, params: Any, carry: Any, x: Array) -> tuple[Any, Array, Callable]:
        """The next carry, y, and the pull of (numbers of the carry, y) to those of (params,
        numbers of the carry before)."""

        def after(params: Any, flat: Array) -> Any:
            carry_after, y = self._after(params, carry_of(flat, carry), x)
            return (flat_of(carry_after), y), carry_after

        (_, y), pull, carry_after = jax.vjp(after, params, flat_of(carry), has_aux=True)
        return carry_after, y, pull

    def _pull(self, params: Any, carry: Any, influence: Any, x: Array, y_bar: Array) -> Any:
        _, y, pull = self._vjp(params, carry, x)
        flat = flat_of(carry)
        direct, flat_bar = pull((jnp.zeros_like(flat), y_bar.astype(y.dtype)))
        return jax.tree.map(
            lambda g, j: g + self._through(flat_bar, j), widen(direct), influence
        )

    def _start(self, params: Any, batch_shape: tuple[int, ...]) -> Any:
        def start(params: Any) -> Array:
            return flat_of(self.recurrence.initial_carry(params))

        flat, pull = jax.vjp(start, params)
        (influence,) = jax.vmap(pull)(self._seeds(flat))
        return jax.tree.map(
            lambda j: jnp.broadcast_to(j, (*batch_shape, *j.shape)), widen(influence)
        )

    @abc.abstractmethod
    def _seeds(self, flat: Array) -> Array:
        """What is pulled back for an influence, `[n, *flat.shape]`."""

    @abc.abstractmethod
    def _through(self, flat_bar: Array, influence: Array) -> Array:
        """What a gradient by the numbers of the carry is by one parameter `[*shape]`."""

    @abc.abstractmethod
    def _move(
        self, params: Any, carry: Any, influence: Any, x: Array
    ) -> tuple[Any, Any, Array]:
        """The next carry and influence, and y."""


def _over_rows(function: Callable, batch: tuple[int, ...]) -> Callable:
    """`function(params, *rows)` of each row of a batch, with the params of all."""

    def mapped(params: Any, *rows: Any) -> Any:
        row = partial(function, params)
        for _ in batch:
            row = jax.vmap(row)
        return row(*rows)

    return mapped


def _flags(name: str, flags: Any, batch: tuple[int, ...]) -> Array | None:
    if flags is None:
        return None
    flags = as_array(flags, name)
    if flags.dtype != bool or flags.shape != batch:
        raise ValueError(
            f"{name} must be bool{list(batch)}, got {flags.dtype}{list(flags.shape)}"
        )
    return flags


def moves(leaf: Any) -> bool:
    """Whether it has a derivative; what counts steps has none."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def flat_of(carry: Any) -> Array:
    """The numbers of a carry that move, leaf by leaf, in float32 or wider; a complex leaf's
    real parts and then its imaginary ones."""
    parts = []
    for leaf in filter(moves, jax.tree.leaves(carry)):
        both = [leaf.real, leaf.imag] if jnp.iscomplexobj(leaf) else [leaf]
        parts += [widen(part).ravel() for part in both]
    return jnp.concatenate(parts)


def carry_of(flat: Array, like: Any) -> Any:
    """Undoes `flat_of`; what does not move is that of `like`."""
    leaves, tree = jax.tree.flatten(like)
    for i, leaf in enumerate(leaves):
        if not moves(leaf):
            continue
        sizes = [leaf.size] * (2 if jnp.iscomplexobj(leaf) else 1)
        *parts, flat = jnp.split(flat, np.cumsum(sizes))
        own = parts[0] if len(parts) == 1 else jax.lax.complex(*parts)
        leaves[i] = own.reshape(leaf.shape).astype(leaf.dtype)
    return tree.unflatten(leaves)

"""Units that keep their value for a step, at random."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Cell, exportable
from jaxrnn.cells.slstm import SLSTM
from jaxrnn.entry import leading_shape
from jaxrnn.linear import Affine, RealLinearCell
from jaxrnn.wrappers.noise import check_rates
from jaxrnn.wrappers.slower import Slower
from jaxrnn.wrappers.wrapper import Wrapper, cells_of


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
        check_rates(self)
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

    @property
    def shares_units(self) -> bool:
        return False  # its noise enters with the inputs, which every device has whole

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

    @property
    def linear(self) -> bool:
        """Where the one leaf of the carry is h, real, and the output."""
        *_, innermost = cells_of(self.cell)
        return self.cell.linear and isinstance(innermost, RealLinearCell)

    def affine(self, params: ZoneoutParams, u: tuple[Any, Any]) -> Affine:
        u, masks = u
        a, b, rest = super().affine(params, u)
        (rate,) = self._rates([a])
        if masks is None:
            return Affine(rate + (1 - rate) * a, (1 - rate) * b, rest)
        (mask,) = masks
        if mask is None:
            return Affine(a, b, rest)
        return Affine(jnp.where(mask, 1.0, a), jnp.where(mask, 0.0, b), rest)

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
            if mask is not None and mask.shape != (*leading_shape(self, xs), *leaf.shape):
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

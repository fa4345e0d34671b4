"""Averages of the parameters over the steps."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

NEVER = jnp.iinfo(jnp.int32).max


class Trigger(NamedTuple):
    """When evaluations no longer get better: NT-ASGD's condition (Merity et al. 2018).

    It is met by an evaluation that is worse than the best of those before the last n.
    """

    recent: Array  # [n] float32  the last n evaluations, the newest last; inf before
    lowest: Array  # [] float32  the best of those before them
    begun: Array  # [] int32  updates done when it was met; NEVER before

    @classmethod
    def after_none(cls, patience: int) -> "Trigger":
        """Before the first evaluation, n = `patience`; with 0 it is met from the start."""
        return cls(
            recent=jnp.full(patience, jnp.inf, jnp.float32),
            lowest=jnp.float32(jnp.inf),
            begun=jnp.int32(NEVER if patience else 0),
        )

    def after(self, loss: float, updates: Array) -> "Trigger":
        """After one more evaluation, with `updates` done, that came to `loss`."""
        latest = jnp.full_like(self.lowest, loss)
        met = (self.begun == NEVER) & (latest > self.lowest)
        seen = jnp.concatenate([self.recent, latest[None]])
        lowest = jnp.fmin(self.lowest, seen[0])
        return Trigger(seen[1:], lowest, jnp.where(met, updates, self.begun))


@dataclass(frozen=True)
class Averaging:
    """The averages that are kept of the params, if any.

    decay: of moving averages; 0 for none.
    patience: the n of the `Trigger` from which on a mean is kept; None for no mean.

    Raises ValueError for numbers out of range, or both at once.
    """

    decay: float = 0.0
    patience: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"average must lie in [0, 1), got {self.decay}")
        if self.patience is not None and (self.patience < 0 or self.decay):
            raise ValueError(
                "average_after must be 0 or more, and average 0 beside it, got "
                f"{self.patience} and {self.decay}"
            )

    @property
    def kept(self) -> bool:
        return self.decay > 0 or self.patience is not None

    def start(self, params: Any) -> Any:
        return jax.tree.map(jnp.copy, params) if self.kept else ()

    def trigger(self) -> Trigger | tuple[()]:
        """Before the first evaluation, () where none decides."""
        return () if self.patience is None else Trigger.after_none(self.patience)

    def after(self, state: Any, params: Any) -> Any:
        """The averages after the update that leads from a `TrainState` to `params`."""
        if not self.kept:
            return state.averages
        n = state.updates + 1
        if self.decay:
            share = moving_share(self.decay, n)
        else:
            share = mean_share(state.evaluations.trigger.begun, n)
        return moved(state.averages, params, share)


def moving_share(decay: float, n: Array) -> Array:
    """The part that the params after update `n`, from 1 on, have in their moving averages.

    (1 - decay) / (1 - decay^n), which is 1 for n = 1.
    """
    return (1 - decay) / -jnp.expm1(n.astype(jnp.float32) * math.log(decay))


def mean_share(begun: Array, n: Array) -> Array:
    """The part that the params after update `n` have in the mean of those since `begun`.

    1 / (n - begun), and 1 as long as nothing has begun: then the mean is the params.
    """
    return 1 / jnp.maximum(n - begun, 1).astype(jnp.float32)


def moved(averages: Any, params: Any, share: Array) -> Any:
    """averages + share (params - averages)."""

    def move(average: Array, param: Array) -> Array:
        part = share.astype(average.dtype)
        return part * param + (1 - part) * average

    return jax.tree.map(move, averages, params)

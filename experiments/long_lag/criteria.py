"""When a trial has solved its problem: the published stopping criteria."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from .tasks import Result


class Recent(NamedTuple):
    """The latest training sequences of all trials, a ring."""

    wrong: Array  # [trials, length] bool
    error: Array  # [trials, length]


@dataclass(frozen=True)
class Window:
    """Of the last `length` training sequences fewer than `limit` were answered wrongly,
    and their mean error is below `error`.

    `counted`: whether these sequences are among those reported as needed. Experiments 2
    ask for 10,000 in a row and report fewer than that, so do not count them.
    """

    length: int
    limit: int = 1
    error: float = jnp.inf
    counted: bool = True

    def start(self, trials: int) -> Recent:
        return Recent(
            jnp.ones((trials, self.length), bool), jnp.zeros((trials, self.length))
        )

    def after(self, recent: Recent, results: Result, n: Array) -> Recent:
        """With the results `[trials]` of training sequence n, from 0 on."""
        at = n % self.length
        return Recent(
            recent.wrong.at[:, at].set(results.wrong),
            recent.error.at[:, at].set(results.error),
        )

    def met(self, recent: Recent, n: Array | int) -> Array:
        """[trials] bool, after n sequences."""
        few = jnp.sum(recent.wrong, axis=1) < self.limit
        return few & (jnp.mean(recent.error, axis=1) < self.error) & (n >= self.length)

    def needed(self, n: Array) -> Array:
        """The number to report of a trial that met the criterion after n sequences."""
        return n if self.counted else n - self.length


@dataclass(frozen=True)
class Examined:
    """Of `count` test sequences fewer than `limit` are answered wrongly, and their mean
    error is below `error`; asked after every so many training sequences."""

    count: int
    limit: int = 1
    error: float = jnp.inf

    def met(self, results: Result) -> Array:
        """[trials] bool, of results `[trials, count]`."""
        few = jnp.sum(results.wrong, axis=1) < self.limit
        return few & (jnp.mean(results.error, axis=1) < self.error)


Criterion = Window | Examined

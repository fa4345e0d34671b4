"""Dynamic evaluation: parameters that go on learning from the text they are measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from jaxrnn.training.evaluation import watched
from jaxrnn.training.problem import Problem, Sum


@dataclass(frozen=True)
class DynamicRule:
    """How parameters follow a text and fall back to what they were trained to be (Krause et
    al. 2018).

        params' = params - rate g + decay (trained - params)                         SGD
        params' = params - rate g / (rms + epsilon)                                  RMS
                  + min(decay rms / mean(rms), 1) (trained - params)

    rms: the root mean square of each parameter's gradient over the training text, as
        `gradient_rms` gives it; None for SGD. mean(rms) is over all parameters.

    Raises ValueError for a negative rate, or a decay outside [0, 1].
    """

    rate: float
    decay: float = 0.0
    epsilon: float = 2e-5

    def __post_init__(self) -> None:
        if not self.rate >= 0 or not 0 <= self.decay <= 1:
            raise ValueError(
                "dynamic evaluation needs a rate of 0 or more and a decay in [0, 1], got "
                f"{self.rate} and {self.decay}"
            )

    def follow(self, params: Any, trained: Any, gradients: Any, rms: Any = None) -> Any:
        """The params after a segment of text whose gradients these are."""
        if rms is None:
            return jax.tree.map(
                lambda p, p0, g: p - self.rate * g + self.decay * (p0 - p),
                params,
                trained,
                gradients,
            )
        sizes = [(jnp.sum(leaf), leaf.size) for leaf in jax.tree.leaves(rms)]
        mean = sum(total for total, _ in sizes) / sum(size for _, size in sizes)

        def move(p: Array, p0: Array, g: Array, r: Array) -> Array:
            back = jnp.minimum(self.decay * r / mean, 1)
            return p - self.rate * g / (r + self.epsilon) + back * (p0 - p)

        return jax.tree.map(move, params, trained, gradients, rms)


class Following(NamedTuple):
    """The carry of a `Dynamic` problem's evaluation."""

    params: Any
    carry: Any  # of the problem
    rms: Any  # as it was given: an argument of the program, and no constant in it


class Dynamic(Problem):
    """A problem measured by dynamic evaluation: each batch with the params that have
    followed all batches before it, then followed itself.

        Trainer(Dynamic(problem, DynamicRule(1e-3)), transform).measure(params, "test")

    A batch of `problem.evaluation` is a segment: the papers take 5 tokens, of one stream.
    Several rows share the params, which follow the mean of their losses. A rate and a
    decay of 0 give the figures of `problem`.
    """

    def __init__(self, problem: Problem, rule: DynamicRule, rms: Any = None) -> None:
        self.problem, self.rule, self.rms = problem, rule, rms
        self.rows, self.unit, self.decides = problem.rows, problem.unit, problem.decides
        self.fingerprint = problem.fingerprint

    def init(self, key: Array) -> tuple[Any, Any]:
        return self.problem.init(key)

    def loss(
        self, params: Any, carry: Any, batch: Any, key: Array | None
    ) -> tuple[Array, Any, dict[str, Array]]:
        return self.problem.loss(params, carry, batch, key)

    def batch(self, step: int, rows: np.ndarray) -> Any:
        return self.problem.batch(step, rows)

    def batch_spec(self, array: Any) -> PartitionSpec:
        return self.problem.batch_spec(array)

    def carry_spec(self, array: Any) -> PartitionSpec:
        return PartitionSpec()  # all rows share the params

    def evaluation(self, split: str) -> Sequence[Any] | None:
        return self.problem.evaluation(split)

    def evaluation_carry(self, params: Any) -> Following:
        return Following(params, self.problem.evaluation_carry(params), self.rms)

    def measure(
        self, params: Any, carry: Following, batch: Any
    ) -> tuple[dict[str, Sum], Following]:
        now, before, rms = carry
        (sums, after), gradients = loss_and_gradients(self.problem, now, before, batch)
        now = self.rule.follow(now, params, gradients, rms)
        return sums, Following(now, after, rms)

    def figures(self, means: dict[str, np.ndarray]) -> dict[str, Any]:
        return self.problem.figures(means)


def gradient_rms(problem: Problem, params: Any, batches: Sequence[Any]) -> Any:
    """The root mean square of each parameter's gradient over `batches`, a carry kept from
    one to the next, of the mean loss of a batch without noise."""

    @jax.jit
    def add(squares: Any, params: Any, carry: Any, batch: Any) -> tuple[Any, Any]:
        (_, carry), gradients = loss_and_gradients(problem, params, carry, batch)
        return jax.tree.map(lambda s, g: s + g * g, squares, gradients), carry

    squares = jax.tree.map(jnp.zeros_like, params)
    carry = problem.evaluation_carry(params)
    for batch in watched(batches, len(batches)):
        squares, carry = add(squares, params, carry, batch)
    return jax.tree.map(lambda s: jnp.sqrt(s / len(batches)), squares)


def loss_and_gradients(
    problem: Problem, params: Any, carry: Any, batch: Any
) -> tuple[tuple[dict[str, Sum], Any], Any]:
    """What `problem` measures of a batch, and the gradients of its mean loss."""

    def loss(params: Any) -> tuple[Array, Any]:
        sums, after = problem.measure(params, carry, batch)
        total, count = sums["loss"]
        return total / jnp.maximum(count, 1).astype(total.dtype), (sums, after)

    gradients, measured = jax.grad(loss, has_aux=True)(params)
    return measured, gradients

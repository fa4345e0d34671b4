"""All that a training run is at one moment, as one tree of arrays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array


class TrainState(NamedTuple):
    """The state after `step` updates: saved and restored whole, so nothing is forgotten."""

    step: Array  # [] int32  updates done; also the position in the data
    key: Array  # [] PRNG key of the run; step n draws from fold_in(key, n)
    params: Any
    opt_state: Any
    carry: Any  # of truncated backpropagation, () where sequences are independent
    best_loss: Array  # [] float32  the best evaluation so far
    best_step: Array  # [] int32

    @classmethod
    def create(
        cls, params: Any, optimiser: optax.GradientTransformation, carry: Any, seed: int
    ) -> "TrainState":
        """The state before the first update."""
        return cls(
            step=jnp.int32(0),
            key=jax.random.key(seed),
            params=params,
            opt_state=optimiser.init(params),
            carry=carry,
            best_loss=jnp.float32(jnp.inf),
            best_step=jnp.int32(0),
        )

    def with_evaluation(self, loss: float) -> "TrainState":
        """The state after an evaluation of `loss` at this step."""
        if not loss < float(self.best_loss):
            return self
        return self._replace(best_loss=jnp.float32(loss), best_step=jnp.array(self.step))


def count(params: Any) -> int:
    """The number of trained numbers in `params`."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))

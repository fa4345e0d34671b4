"""All that a training run is at one moment, as one tree of arrays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn.training.optimiser import Optimiser

# The leaves that checkpoints of older versions lack, as they would have been there.
LATER_LEAVES = {name: np.zeros((), np.int32) for name in ("skipped", "bad_in_row")}


class TrainState(NamedTuple):
    """The state after `step` steps: saved and restored whole, so nothing is forgotten."""

    step: Array  # [] int32  steps done; also the position in the data
    key: Array  # [] PRNG key of the run; step n draws from fold_in(key, n)
    params: Any
    opt_state: Any
    carry: Any  # of truncated backpropagation, () where sequences are independent
    averages: Any  # of the params over the steps, () where none are kept
    plateau: Any  # of the learning rate that evaluations decide, () elsewhere
    best_loss: Array  # [] float32  the best evaluation so far
    best_step: Array  # [] int32
    skipped: Array  # [] int32  steps that were no update
    bad_in_row: Array  # [] int32  steps up to here that had numbers that are not finite

    @classmethod
    def create(
        cls,
        params: Any,
        optimiser: Optimiser,
        carry: Any,
        seed: int,
        *,
        average: bool = False,
    ) -> "TrainState":
        """The state before the first step."""
        return cls(
            step=jnp.int32(0),
            key=jax.random.key(seed),
            params=params,
            opt_state=optimiser.transform.init(params),
            carry=carry,
            averages=jax.tree.map(jnp.copy, params) if average else (),
            plateau=optimiser.plateau.init(params) if optimiser.plateau else (),
            best_loss=jnp.float32(jnp.inf),
            best_step=jnp.int32(0),
            skipped=jnp.int32(0),
            bad_in_row=jnp.int32(0),
        )

    @property
    def evaluated_params(self) -> Any:
        """The parameters to measure and to use: the averages where they are kept."""
        return self.averages if jax.tree.leaves(self.averages) else self.params

    def with_evaluation(
        self, loss: float, plateau: optax.GradientTransformationExtraArgs | None = None
    ) -> "TrainState":
        """The state after an evaluation of `loss` at this step."""
        state = self
        if plateau is not None:
            with jax.numpy_dtype_promotion("standard"):  # which Optax counts on
                _, after = plateau.update((), self.plateau, value=loss)
            state = state._replace(plateau=after)
        # Rounded as best_loss was, or a tie would count as better half the time.
        if not np.float32(loss) < np.float32(self.best_loss):
            return state
        # Where the former ones are: else the next step would be compiled anew.
        return state._replace(
            best_loss=jnp.full_like(self.best_loss, loss), best_step=jnp.copy(self.step)
        )

    def passed_over(self) -> "TrainState":
        """The state after a step whose batch is not learned from."""
        return self._replace(step=self.step + 1, skipped=self.skipped + 1)


def count(params: Any) -> int:
    """The number of trained numbers in `params`."""
    leaves = jax.tree.leaves(params)
    return sum(leaf.size for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact))

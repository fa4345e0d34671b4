"""All that a training run is at one moment, as one tree of arrays."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn.training.averages import Trigger
from jaxrnn.training.leaves import Leaf

FORMERLY = re.compile("^(best_loss|best_step|plateau)")  # now in `evaluations`
LATER = ("skipped", "bad_in_row")  # what the oldest versions did not count
ZERO = Leaf("int32", np.zeros((), np.int32))


class Evaluations(NamedTuple):
    """What the evaluations so far have come to."""

    best_loss: Array  # [] float32  of the figure that decides
    best_step: Array  # [] int32
    plateau: Any  # of the learning rate that evaluations decide, () elsewhere
    trigger: Any = ()  # Trigger of the averages that evaluations begin, () elsewhere

    @classmethod
    def none(
        cls,
        params: Any,
        plateau: optax.GradientTransformationExtraArgs | None,
        trigger: Trigger | tuple[()],
    ) -> "Evaluations":
        """Before the first one."""
        return cls(
            best_loss=jnp.float32(jnp.inf),
            best_step=jnp.int32(0),
            plateau=() if plateau is None else plateau.init(params),
            trigger=trigger,
        )

    def after(
        self,
        loss: float,
        step: Array,
        updates: Array,
        plateau: optax.GradientTransformationExtraArgs | None,
    ) -> "Evaluations":
        """What they have come to with one more that came to `loss`, at `step` and after
        `updates`."""
        best_loss, best_step, scaled, trigger = self
        if trigger:
            trigger = trigger.after(loss, updates)
        if plateau is not None:
            with jax.numpy_dtype_promotion("standard"):  # which Optax counts on
                _, scaled = plateau.update((), scaled, value=loss)
        # Rounded as best_loss was, or a tie would count as better half the time.
        if np.float32(loss) < np.float32(best_loss):
            # Where the former ones are: else the next step would be compiled anew.
            best_loss, best_step = jnp.full_like(best_loss, loss), jnp.copy(step)
        return Evaluations(best_loss, best_step, scaled, trigger)


class TrainState(NamedTuple):
    """The state after `step` steps: saved and restored whole, so nothing is forgotten."""

    step: Array  # [] int32  steps done; also the position in the data
    key: Array  # [] PRNG key of the run; step n draws from fold_in(key, n)
    params: Any
    opt_state: Any
    carry: Any  # of truncated backpropagation, () where batches are independent
    averages: Any  # of the params over the steps, () where none are kept
    evaluations: Any  # Evaluations
    skipped: Array  # [] int32  steps that were no update
    bad_in_row: Array  # [] int32  steps up to here that had numbers that are not finite

    @property
    def updates(self) -> Array:
        """[] int32: the steps that were updates."""
        return self.step - self.skipped

    @property
    def best_step(self) -> Array:
        return self.evaluations.best_step

    @property
    def evaluated_params(self) -> Any:
        """The parameters to measure and to use: the averages where they are kept."""
        return self.averages if jax.tree.leaves(self.averages) else self.params

    def passed_over(self) -> "TrainState":
        """The state after a step whose batch is not learned from."""
        return self._replace(step=self.step + 1, skipped=self.skipped + 1)


def count(params: Any) -> int:
    """The number of trained numbers in `params`."""
    leaves = jax.tree.leaves(params)
    return sum(leaf.size for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact))


def upgrade(leaves: dict[str, Leaf]) -> dict[str, Leaf]:
    """The leaves of a state by path, as of this version, from those of any before it."""
    moved = {re.sub(FORMERLY, r"evaluations/\1", path): x for path, x in leaves.items()}
    return {name: ZERO for name in LATER} | moved

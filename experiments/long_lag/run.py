"""A run's folder, opened again: its config, its network and what its trials learned."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.training.run.opened import Opened, Step
from jaxrnn.training.run.reopen import existing, read_options
from jaxrnn.training.store.checkpoint import CheckpointStore

from .config import Config
from .problem import Model
from .tasks import Task
from .trials import make_trials


@dataclass(frozen=True, repr=False, eq=False)
class Trained(Opened):
    """A run, and its trials as they were last saved."""

    config: Config
    task: Task
    network: Model
    weights: Any  # leaves [trials, ...]
    needed: np.ndarray  # [trials] int32  sequences until the criterion was met, or -1

    @classmethod
    def load(cls, path: Path, step: Step = "latest") -> "Trained":
        """As `Opened.load`; the latest step, whichever is asked for: each trial stops
        learning where it has met the criterion."""
        return load(path)

    def __call__(self, xs: np.ndarray) -> np.ndarray:
        """What each trial's network gives at every step of xs `[T, ..., D]`: `[trials, T,
        ..., outputs]`."""
        inputs = jnp.asarray(xs, jnp.result_type(float))
        return np.asarray(jax.vmap(lambda one: self.network(one, inputs))(self.weights))


def load(path: Path) -> Trained:
    """Raises ValueError if there is no run, or if its trials were never saved."""
    config = read_options(path, Config)
    trials = make_trials(config)
    problem, state = trials.problem, trials.like
    like = {"params": state.params, "carry": {"needed": state.carry.needed}}
    # Nothing else of the state is read, such as its key.
    restored = CheckpointStore(path).restore(like, upgrade=trials.upgrade, part=True)
    saved = existing(restored, path).state
    needed = np.asarray(saved["carry"]["needed"])
    return Trained(config, problem.task, problem.network, saved["params"], needed)

"""A run's folder, opened again: its config, its network and what its trials learned."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.long_lag.config import Config
from experiments.long_lag.problem import Model
from experiments.long_lag.tasks import Task
from experiments.long_lag.trials import make_trials
from jaxrnn.training.run.reopen import existing, read_options
from jaxrnn.training.store.checkpoint import CheckpointStore


class Trained(NamedTuple):
    """A run, and its trials as they were last saved."""

    config: Config
    task: Task
    network: Model
    weights: Any  # leaves [trials, ...]
    needed: np.ndarray  # [trials] int32  sequences until the criterion was met, or -1


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

"""A run's folder, opened again: its config, its network and what its trials learned."""

from pathlib import Path
from typing import NamedTuple

from experiments.long_lag.config import Config
from experiments.long_lag.problems import Problem
from experiments.long_lag.task import (
    Learners,
    Model,
    make_network,
    make_problem,
    make_task,
)
from jaxrnn.training.run.reopen import existing, read_options
from jaxrnn.training.store.checkpoint import CheckpointStore


class Trained(NamedTuple):
    """A run, and its trials as they were last saved."""

    config: Config
    problem: Problem
    network: Model
    learners: Learners


def load(path: Path) -> Trained:
    """Raises ValueError if there is no run, or if its trials were never saved."""
    config = read_options(path, Config)
    problem, _ = make_problem(config)
    wanted = {"params": make_task(config).state.params}
    restored = existing(CheckpointStore(path).restore(wanted, part=True), path)
    network = make_network(config, problem)
    return Trained(config, problem, network, restored.state["params"])

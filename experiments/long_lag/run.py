"""A run's folder, opened again: its config, its network and what its trials learned."""

from dataclasses import fields, replace
from pathlib import Path

from experiments.long_lag.config import Config
from experiments.long_lag.network import Network
from experiments.long_lag.problems import Problem
from experiments.long_lag.task import Learners, make_network, make_problem, make_task
from jaxrnn.training.checkpoint import CheckpointStore
from jaxrnn.training.run_directory import RunDirectory


def read_config(path: Path) -> Config:
    """Raises ValueError if there is no run."""
    stored = RunDirectory(path).read_config()
    names = {field.name for field in fields(Config)}
    config = Config(**{name: value for name, value in stored.items() if name in names})
    return replace(
        config,
        data=None,
        run_dir=path,
        input_bias=tuple(config.input_bias),
        output_bias=tuple(config.output_bias),
    )


def load(path: Path) -> tuple[Config, Problem, Network, Learners]:
    """The trials as they were last saved; raises ValueError if they never were."""
    config = read_config(path)
    problem, _ = make_problem(config)
    with CheckpointStore(path) as store:
        restored = store.restore(make_task(config).state)
    if restored is None:
        raise ValueError(f"{path} has no checkpoint yet")
    return config, problem, make_network(config, problem), restored.state.params

"""A state tracking run's folder, opened again: by `report`."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.state_tracking.config import Config
from experiments.state_tracking.problem import make_problem
from jaxrnn.data.files import read_json
from jaxrnn.training.run.reopen import best_params, read_options


class Answered(NamedTuple):
    """What a run came to on its test set."""

    config: Config
    result: dict[str, Any]
    accuracy: np.ndarray  # [T] by length less one, NaN where nothing is asked


def ask(path: Path) -> Answered:
    """Raises ValueError if there is no run that came to its end."""
    config = read_options(path, Config)
    result = read_json(path / "result.json")
    problem = make_problem(config)
    params = best_params(path, config, problem.model.like)
    right, asked = np.zeros((2, config.asked))
    for batch in problem.evaluation("test"):
        _, correct, counted = problem.answers(params, batch)
        right += np.sum(correct, axis=1)
        asked += np.sum(counted, axis=1)
    accuracy = np.divide(right, asked, out=np.full(config.asked, np.nan), where=asked > 0)
    return Answered(config, result, accuracy)

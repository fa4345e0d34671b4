"""A state tracking run's folder, opened again: by `report`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.data.files import read_json
from jaxrnn.models import CausalTransformer, SequenceModel
from jaxrnn.training.run.opened import Opened, Step
from jaxrnn.training.run.reopen import best_params, read_options

from .config import Config
from .problem import make_model, make_problem
from .tasks import TASKS


@dataclass(frozen=True, repr=False, eq=False)
class Trained(Opened):
    """A network that keeps a state, and all that is needed to ask it."""

    model: SequenceModel | CausalTransformer
    config: Config

    @classmethod
    def load(cls, path: Path, step: Step = "best") -> "Trained":
        config = read_options(path, Config)
        model = make_model(config)
        return cls(model(best_params(path, config, model.like, step)), config)

    def __call__(self, symbols: np.ndarray) -> np.ndarray:
        """The likeliest answer `[T, ...]` after each symbol of `[T, ...]`, by number.

        Raises ValueError for a symbol that the task does not have.
        """
        known = TASKS[self.config.task].symbols
        symbols = np.asarray(symbols)
        if not np.all((symbols >= 0) & (symbols < known)):
            raise ValueError(f"symbols of {self.config.task} lie in [0, {known})")
        _, logits = self.model(jax.nn.one_hot(jnp.asarray(symbols), known))
        return np.asarray(jnp.argmax(logits, axis=-1))


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

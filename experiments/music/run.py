"""A music run's folder, opened again: by `plot`."""

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.models import SequenceModel
from jaxrnn.training.run.opened import Opened, Step
from jaxrnn.training.run.reopen import best_params, check_data, read_options

from .config import Config
from .pieces import Pieces
from .problem import make_model
from .selection import make_selection


@dataclass(frozen=True, repr=False, eq=False)
class Trained(Opened):
    """A trained model of music and all that is needed to ask it."""

    model: SequenceModel
    config: Config

    @classmethod
    def load(cls, path: Path, step: Step = "best") -> "Trained":
        """As `Opened.load`; which of several candidates is the best shows on the pieces
        that they learned from, which must then be there."""
        config = read_options(path, Config)
        if config.candidates > 1:
            return cls(load(path, step)[0], config)
        model = make_model(config)
        like = jax.eval_shape(jax.vmap(model.init), jax.random.split(jax.random.key(0), 1))
        params = best_params(path, config, like, step)
        return cls(model(jax.tree.map(lambda a: a[0], params)), config)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """The probability `[T, 88]` of each key in the frame after each of `[T, 88]`."""
        _, logits = self.model(jnp.asarray(frames, jnp.float32))
        return np.asarray(jax.nn.sigmoid(logits))


def load(path: Path, step: Step = "best") -> tuple[SequenceModel, dict[str, Pieces]]:
    """The best candidate of a run and the pieces it learned from; raises ValueError if
    there is none, or if the pieces are others."""
    config = replace(read_options(path, Config), eval_batches=None)
    selection = make_selection(config)
    problem = selection.problem
    check_data(path, problem.fingerprint["data_sha256"])
    params = best_params(path, config, selection.like.params, step)
    best = selection.best(params)
    return problem.model(jax.tree.map(lambda leaf: leaf[best], params)), problem.splits

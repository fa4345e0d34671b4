"""A music run's folder, opened again: by `plot`."""

from dataclasses import replace
from pathlib import Path

import jax

from experiments.music.config import Config
from experiments.music.pieces import Pieces
from experiments.music.selection import make_selection
from jaxrnn.models import SequenceModel
from jaxrnn.training.run.reopen import best_params, check_data, read_options


def load(path: Path) -> tuple[SequenceModel, dict[str, Pieces]]:
    """The best candidate of a run and the pieces it learned from; raises ValueError if
    there is none, or if the pieces are others."""
    config = replace(read_options(path, Config), eval_batches=None)
    selection = make_selection(config)
    problem = selection.problem
    check_data(path, problem.fingerprint["data_sha256"])
    params = best_params(path, config, selection.like.params)
    best = selection.best(params)
    return problem.model(jax.tree.map(lambda leaf: leaf[best], params)), problem.splits

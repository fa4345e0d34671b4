"""A music run's folder, opened again: by `plot`."""

from pathlib import Path

import jax
from flax import nnx

from experiments.music.candidates import best_of
from experiments.music.config import Config
from experiments.music.pieces import Pieces, read_splits
from experiments.music.task import (
    all_batches,
    data_digest,
    edges_over,
    initial_state,
    make_measure,
)
from jaxrnn.models import SequenceModel
from jaxrnn.training.run.reopen import best_params, check_data, read_options


def load(path: Path) -> tuple[SequenceModel, dict[str, Pieces]]:
    """The best candidate of a run and the pieces it learned from; raises ValueError if
    there is none, or if the pieces are others."""
    config = read_options(path, Config)
    splits = read_splits(config.data)
    check_data(path, data_digest(splits))
    graph, like = initial_state(config)
    params = best_params(path, like)
    valid = all_batches(splits["valid"], config.batch_size, edges_over([splits["valid"]]))
    best = best_of(make_measure(graph)(params, valid))
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf[best], params)), splits

"""A translator's run folder, opened again: by `evaluate` and `translate`."""

from pathlib import Path

from experiments.translation.config import Config
from experiments.translation.pairs import Pairs, read_pairs
from experiments.translation.problem import Languages, Model, data_digest, make_model
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.reopen import best_params, check_data, read_options


def load(path: Path) -> tuple[Model, Languages, Config]:
    """The best model of a run; raises ValueError if there is none."""
    config = read_options(path, Config)
    languages = Languages.load(RunDirectory(path).tokenizer)
    model = make_model(config, languages)
    return model(best_params(path, config, model.like)), languages, config


def read_test(path: Path, config: Config) -> Pairs:
    """The run's test pairs; raises ValueError if the data are not those of the run."""
    pairs = read_pairs(config.corpus, config.data)
    check_data(path, data_digest(pairs))
    return pairs["test"]

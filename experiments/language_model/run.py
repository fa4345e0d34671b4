"""A language model's run folder, opened again: by `train`, `evaluate` and `sample`."""

from dataclasses import replace
from pathlib import Path

from experiments.language_model.config import Config
from experiments.language_model.model import Model, make_model
from experiments.language_model.text import read_splits
from jaxrnn.data.files import digest
from jaxrnn.data.tokenizer import Tokenizer
from jaxrnn.models import LanguageModel
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.reopen import best_params, check_data, read_options


def load(path: Path) -> tuple[Model, Tokenizer, Config]:
    """The best model of a run; raises ValueError if there is none."""
    config = replace(read_options(path, Config), start_from=None)
    tokenizer = Tokenizer.load(RunDirectory(path).tokenizer)
    model = make_model(config, tokenizer.size)
    return model(best_params(path, config, model.like)), tokenizer, config


def load_recurrent(path: Path) -> tuple[LanguageModel, Tokenizer, Config]:
    """`load` where a carry is looked into; raises ValueError for a transformer, which has
    none."""
    model, tokenizer, config = load(path)
    if not isinstance(model, LanguageModel):
        raise ValueError(f"{path} holds a {config.cell}, and this takes a recurrent model")
    return model, tokenizer, config


def read_text(path: Path, config: Config) -> dict[str, bytes]:
    """The text of a run; raises ValueError if it is not what the run was trained on."""
    splits = read_splits(config.data, config.split, config.tokens)
    check_data(path, digest(splits))
    return splits

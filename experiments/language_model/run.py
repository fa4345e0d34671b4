"""A language model's run folder, opened again: by `train`, `evaluate` and `sample`."""

from dataclasses import replace
from pathlib import Path

from experiments.language_model.config import Config
from experiments.language_model.model import Model, make_model
from experiments.language_model.text import Text, read_tokens
from jaxrnn.data.subwords import AnyTokenizer, load_tokenizer
from jaxrnn.models import LanguageModel
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.reopen import best_params, check_data, read_options


def load(path: Path) -> tuple[Model, AnyTokenizer, Config]:
    """The best model of a run; raises ValueError if there is none."""
    config = replace(read_options(path, Config), start_from=None)
    tokenizer = load_tokenizer(RunDirectory(path).tokenizer)
    model = make_model(config, tokenizer.size)
    return model(best_params(path, config, model.like)), tokenizer, config


def load_recurrent(path: Path) -> tuple[LanguageModel, AnyTokenizer, Config]:
    """`load` where a carry is looked into; raises ValueError for a transformer, which has
    none."""
    model, tokenizer, config = load(path)
    if not isinstance(model, LanguageModel):
        raise ValueError(f"{path} holds a {config.cell}, and this takes a recurrent model")
    return model, tokenizer, config


def read_text(path: Path, config: Config, tokenizer: AnyTokenizer) -> Text:
    """The text of a run; raises ValueError if it is not what the run was trained on."""
    text = read_tokens(config, tokenizer)
    check_data(path, text.sha256)
    return text

"""A language model's run folder, opened again: by `train`, `evaluate` and `sample`."""

from dataclasses import fields, replace
from pathlib import Path

from flax import nnx

from experiments.language_model.config import Config
from experiments.language_model.task import initial_state
from experiments.language_model.text import read_splits
from jaxrnn.models import LanguageModel
from jaxrnn.training.checkpoint import CheckpointStore
from jaxrnn.training.data_files import digest
from jaxrnn.training.run_directory import RunDirectory
from jaxrnn.training.tokenizer import Tokenizer


def load(path: Path) -> tuple[LanguageModel, Tokenizer, Config]:
    """The best model of a run, the newest one before its first evaluation.

    Raises ValueError if there is none.
    """
    run = RunDirectory(path)
    config = _config(run)
    tokenizer = Tokenizer.load(run.tokenizer)
    graph, state = initial_state(config, tokenizer.size)
    with CheckpointStore(run.path) as store:
        restored = store.restore_best(state) or store.restore(state)
    if restored is None:
        raise ValueError(f"{run.path} has no checkpoint yet")
    return nnx.merge(graph, restored.state.evaluated_params), tokenizer, config


def read_text(path: Path, config: Config) -> dict[str, bytes]:
    """The text of a run; raises ValueError if it is not what the run was trained on."""
    splits = read_splits(config.data, config.split)
    wanted = RunDirectory(path).read_config()["data_sha256"]
    if digest(splits) != wanted:
        raise ValueError(
            f"the text has the SHA-256 {digest(splits)}, the run in {path} has {wanted}"
        )
    return splits


def _config(run: RunDirectory) -> Config:
    stored = run.read_config()
    known = {field.name for field in fields(Config)}
    config = Config(**{name: value for name, value in stored.items() if name in known})
    return replace(
        config,
        data=None if config.data is None else Path(config.data),
        run_dir=run.path,
        split=tuple(config.split),
    )

"""A language model's run folder, opened again: by `train`, `evaluate` and `sample`."""

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from flax import nnx

from experiments.language_model.config import Config
from experiments.language_model.task import initial_state
from experiments.language_model.text import Tokenizer, digest, locate, read_splits
from jaxrnn.models import LanguageModel
from jaxrnn.training.checkpoint import CheckpointStore
from jaxrnn.training.run_directory import RunDirectory


def describe(config: Config, splits: dict[str, bytes]) -> dict[str, Any]:
    """What config.json holds: the config, and the hash of the text it was trained on."""
    data = None if config.data is None else locate(config.data)
    return asdict(config) | {"data": data, "data_sha256": digest(splits)}


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
    return nnx.merge(graph, restored.state.params), tokenizer, config


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
    config = Config(**{field.name: stored[field.name] for field in fields(Config)})
    return replace(
        config,
        data=None if config.data is None else Path(config.data),
        run_dir=run.path,
        split=tuple(config.split),
    )

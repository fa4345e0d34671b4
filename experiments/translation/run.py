"""A translator's run folder, opened again: by `evaluate` and `translate`."""

from dataclasses import fields, replace
from pathlib import Path

from flax import nnx

from experiments.translation.config import Config
from experiments.translation.pairs import Pairs, read_pairs
from experiments.translation.task import Languages, Model, data_digest, initial_state
from jaxrnn.training.checkpoint import CheckpointStore
from jaxrnn.training.run_directory import RunDirectory


def load(path: Path) -> tuple[Model, Languages, Config]:
    """The best model of a run, the newest one before its first evaluation.

    Raises ValueError if there is none.
    """
    run = RunDirectory(path)
    stored = run.read_config()
    known = {field.name for field in fields(Config)}
    config = Config(**{name: value for name, value in stored.items() if name in known})
    config = replace(
        config, run_dir=run.path, data=None if config.data is None else Path(config.data)
    )
    languages = Languages.from_json(run.tokenizer.read_text(encoding="utf-8"))
    graph, state = initial_state(config, languages)
    with CheckpointStore(run.path) as store:
        restored = store.restore_best(state) or store.restore(state)
    if restored is None:
        raise ValueError(f"{run.path} has no checkpoint yet")
    return nnx.merge(graph, restored.state.evaluated_params), languages, config


def read_test(path: Path, config: Config) -> Pairs:
    """The run's test pairs; raises ValueError if the data are not those of the run."""
    pairs = read_pairs(config.corpus, config.data)
    wanted = RunDirectory(path).read_config()["data_sha256"]
    given = data_digest(pairs)
    if given != wanted:
        raise ValueError(
            f"the data have the SHA-256 {given}, the run in {path} has {wanted}"
        )
    return pairs["test"]

"""A run's folder opened again, to use what was learned in it."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from jaxrnn.training.checkpoint import CheckpointStore
from jaxrnn.training.options import Options
from jaxrnn.training.run_directory import RunDirectory
from jaxrnn.training.state import TrainState

Config = TypeVar("Config", bound=Options)


def read_options(path: Path, kind: type[Config]) -> Config:
    """The options of the run at `path`; what an older version did not know has its default.

    Raises ValueError if there is no run.
    """
    stored = RunDirectory(path).read_config()
    known = {field.name for field in fields(kind)}
    # JSON knows neither tuples nor paths.
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in stored.items()
        if name in known
    }
    options = kind(**given)
    data = None if options.data is None else Path(options.data)
    return replace(options, data=data, run_dir=path)


def check_data(path: Path, sha256: str) -> None:
    """Raises ValueError if the run at `path` learned from data of another SHA-256."""
    wanted = RunDirectory(path).read_config()["data_sha256"]
    if sha256 != wanted:
        raise ValueError(
            f"the data have the SHA-256 {sha256}, the run in {path} has {wanted}"
        )


def best_state(path: Path, like: TrainState) -> TrainState:
    """The best state of the run at `path`, the newest one before its first evaluation.

    Raises ValueError if there is none, or none like `like`.
    """
    with CheckpointStore(path) as store:
        restored = store.restore_best(like) or store.restore(like)
    if restored is None:
        raise ValueError(f"{path} has no checkpoint yet")
    return restored.state

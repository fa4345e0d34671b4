"""A run's folder opened again, to use what was learned in it."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.opened import Step
from jaxrnn.training.run.options import Options
from jaxrnn.training.state import TrainState
from jaxrnn.training.store.checkpoint import CheckpointStore, Restored
from jaxrnn.training.trainer import Trainer

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


def best_params(path: Path, options: Options, like: Any, step: Step = "best") -> Any:
    """The parameters to use of the run at `path`, as `read_params` finds them."""
    return read_params(path, options, like, step).state


def read_params(path: Path, options: Options, like: Any, step: Step = "best") -> Restored:
    """The parameters to use of the run at `path`, of the shapes of `like`: of its best
    state, or the newest one before its first evaluation or where `step` is "latest";
    averages if it kept some.

    Nothing else of the state is read, so neither the kind of its random key nor its
    optimiser matters, nor the mode of JAX and the devices that it was trained with. Raises
    ValueError if there is no checkpoint, or none with such parameters.
    """
    averages = options.average or options.average_after is not None
    name = "averages" if averages else "params"
    store = CheckpointStore(path)
    restored = None
    if step == "best":
        restored = store.restore_best({name: like}, part=True)
    restored = restored or store.restore({name: like}, part=True)
    found = existing(restored, path)
    return found._replace(state=found.state[name])


def newest_state(path: Path, trainer: Trainer) -> TrainState:
    """The newest state of the run at `path` as a whole.

    Raises ValueError if there is none, or none like that of the trainer.
    """
    store = CheckpointStore(path)
    return existing(store.restore(trainer.like, upgrade=trainer.upgrade), path).state


def existing(restored: Restored | None, path: Path) -> Restored:
    if restored is None:
        raise ValueError(f"{path} has no checkpoint yet")
    return restored

"""A run opened again by name: its model, what the model reads and how to ask it."""

import abc
import importlib.util
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from jaxrnn.training.run.directory import RunDirectory

Step = Literal["best", "latest"]

# An option that one of the toolkit's own experiments has alone, for the runs that began
# before a run told what opens it.
FORMERLY = {
    "split": "experiments.language_model.run:Trained",
    "word_dropout": "experiments.sentiment.run:Trained",
    "teacher_forcing": "experiments.translation.run:Trained",
    "rate_spread": "experiments.music.run:Trained",
    "eigenvalues": "experiments.state_tracking.run:Trained",
    "test_sequences": "experiments.long_lag.run:Trained",
}


class Section(NamedTuple):
    """A part of a run's report: what stands above it, and its HTML, texts escaped."""

    title: str
    html: str


class Opened(abc.ABC):
    """A run opened again: its model, what the model reads, and a call that asks it.

    What `jaxrnn.load` gives. A subclass opens the runs of one problem, which names it as
    `Problem.opened_by`, "module:Class".
    """

    @classmethod
    @abc.abstractmethod
    def load(cls, path: Path, step: Step = "best") -> Self:
        """The run at `path`, its parameters read and nothing else of its state.

        Raises ValueError if there is none, or none that fits.
        """

    @abc.abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Asks the model."""

    def sections(self, texts: Sequence[str]) -> Sequence[Section]:
        """What `jaxrnn.report` shows of the run beside what every run has: of the `texts`
        that a reader chose or, without one, of some of its own. Nothing unless told.

        Raises ValueError for a text that cannot be shown, or where there is none.
        """
        return ()

    def __repr__(self) -> str:
        """How to call it."""
        call = type(self).__call__
        takes = list(inspect.signature(call).parameters.values())[1:]
        told = (inspect.getdoc(call) or "").partition("\n")[0]
        signature = inspect.Signature(takes)
        return f"<{type(self).__module__}: call it with {signature}: {told}>"


def open_run(path: Path, step: Step = "best") -> Opened:
    """What opens the run at `path`, by what its config says.

    Raises ValueError if there is no run, or none that can be opened.
    """
    if step not in ("best", "latest"):
        raise ValueError(f"step must be 'best' or 'latest', got {step!r}")
    config = RunDirectory(path).read_config()
    formerly = (name for option, name in FORMERLY.items() if option in config)
    name = config.get("opened_by") or next(formerly, None)
    if name is None:
        raise ValueError(
            f"the run at {path} does not tell what opens it: its problem has no opened_by "
            "(jaxrnn.training.best_params reads its parameters)"
        )
    return find(name, path).load(path, step)


def find(name: str, path: Path) -> type[Opened]:
    """The class that `name` is, which opens the run at `path`.

    A run is a folder from anywhere: of what it names nothing is called that is no `Opened`.
    """
    module, _, kind = name.partition(":")
    # The toolkit's own lie beside it in a checkout and within it where it is installed.
    within = [f"jaxrnn.{module}"] if module.startswith("experiments.") else []
    for place in [*within, module]:
        if there(place):
            found = getattr(importlib.import_module(place), kind, None)
            if isinstance(found, type) and issubclass(found, Opened):
                return found
    raise ValueError(
        f"the run at {path} is opened by {kind} of {module}, and there is no such class "
        "here: is what trained it installed?"
    )


def there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # what it lies in is not there
        return False

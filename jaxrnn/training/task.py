"""What is trained, and how it is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optax

from jaxrnn.training.state import TrainState
from jaxrnn.training.step import TrainStep

# params -> what was measured, such as {"loss": 1.2, "error": 0.5}. One whose batches go
# through `evaluation.watched` is shown as it goes, and need not be waited for.
Evaluate = Callable[[Any], dict[str, float]]


@dataclass(frozen=True)
class Task:
    """What is trained: all that differs between one experiment and another.

    A run copies its state, so the same task may be trained more than once.
    """

    state: TrainState  # before the first step
    train_step: TrainStep
    batch: Callable[[int], Any]  # of step n + 1: arrays [T, B, ...], or [B]
    evaluate: Evaluate  # params -> validation figures, "loss" among them
    test: Evaluate | None  # params -> test figures, where there is a test set
    unit: str  # what the losses are counted in, such as "nats/character"
    tokens_per_step: int
    decides: str = "loss"  # the validation figure that is lowest where params are best
    plateau: optax.GradientTransformationExtraArgs | None = None
    # What the run rests on beside its options: digests of the data, for one.
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    # Texts to keep in the run's folder, by file name: the tokenizer, for one.
    files: Mapping[str, str] = field(default_factory=dict)

    def validate(self, params: Any) -> dict[str, float]:
        """The validation figures; raises ValueError if the one that decides is missing."""
        figures = as_numbers(self.evaluate(params))
        if self.decides not in figures:
            raise ValueError(
                f"the task is decided by {self.decides!r}, and its evaluation gives only "
                f"{', '.join(map(repr, figures)) or 'nothing'}"
            )
        return figures


def as_numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(figure) for name, figure in figures.items()}

"""What is trained, and how it is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optax

from jaxrnn.training.state import TrainState
from jaxrnn.training.step import TrainStep

# params -> what was measured, such as {"loss": 1.2, "error": 0.5}
Evaluate = Callable[[Any], dict[str, float]]


@dataclass(frozen=True)
class Task:
    """What is trained: all that differs between one experiment and another."""

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

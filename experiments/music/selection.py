"""Several candidates trained side by side, and the best of them told."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxrnn.training.trainer import Trainer

from .candidates import best_of, draw_factors, for_each, left_out
from .config import Config
from .pieces import marginal_nats
from .problem import Music, make_problem


@dataclass(frozen=True, eq=False)
class Selection(Trainer):
    """Trains candidates, and tells of the one that is best on the validation pieces."""

    problem: Music

    def measure(self, params: Any, split: str) -> dict[str, float]:
        """Beside the loss the baseline, which knows how often each key is played; on
        "valid" the best learning rate, and those of candidates that came to nothing."""
        losses, share = self._losses(params, "valid")
        best, rates = best_of(losses), self._rates
        told = {"learning_rate": float(rates[best])} | left_out(losses, rates)
        if split == "test":
            losses, share = self._losses(params, "test")
            told = {}
        figures = {"loss": float(losses[best]), "baseline": self._baselines[split]}
        return figures | told | share

    def best(self, params: Any) -> int:
        """The number of the best candidate."""
        return best_of(self._losses(params, "valid")[0])

    def _losses(self, params: Any, split: str) -> tuple[np.ndarray, dict[str, float]]:
        """`[C]` of the candidates, and the share of the batches they were measured on."""
        figures: dict[str, Any] = super().measure(params, split)
        return figures.pop("losses"), figures

    @cached_property
    def _rates(self) -> np.ndarray:
        config = self.problem.config
        return config.learning_rate * factors_of(config)

    @cached_property
    def _baselines(self) -> dict[str, float]:
        splits = self.problem.splits
        return {
            name: marginal_nats(splits["train"], splits[name]) for name in ("valid", "test")
        }


def factors_of(config: Config) -> np.ndarray:
    """`[C]` of the learning rates."""
    return draw_factors(config.candidates, config.rate_spread, config.seed)


def make_selection(config: Config) -> Selection:
    """Raises ValueError if something is off."""
    return Selection(
        make_problem(config),
        *for_each(config.make_optimiser(), factors_of(config)),
        **config.trainer_options(),
    )

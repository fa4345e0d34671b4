"""The options that all training runs share; an experiment adds its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax.numpy as jnp

from jaxrnn.training.loop import Plan
from jaxrnn.training.optimiser import (
    Optimiser,
    make_plateau,
    make_schedule,
    make_transform,
)


@dataclass(frozen=True)
class Options:
    """How a run is kept, trained, measured and guarded: the command line's flat options."""

    run_dir: Path = Path("runs/run")
    """Where the run is kept; the same folder again goes on where it stopped."""
    data: Path | None = None
    """A file or a folder. A relative path is looked for from here, then in the folder
    that JAXRNN_DATA names."""
    resume: Literal["auto", "never", "must"] = "auto"
    """What to do with a run that is already in the folder."""
    allow_change: tuple[str, ...] = ()
    """Options in which the run may differ from how it began; kept in its history."""
    distributed: bool = False
    """One of several processes, which find each other as jax.distributed does, or by
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID."""
    seed: int = 0

    steps: int = 1000
    batch_size: int = 32
    """Sequences, or lanes of text, side by side."""
    optimiser: Literal["adamw", "adam", "rmsprop", "adagrad", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    """Of sgd and rmsprop."""
    schedule: Literal["constant", "cosine", "stairs", "plateau"] = "constant"
    warmup: float = 0.0
    """The share of the steps in which the learning rate grows, linearly."""
    decay_begin: int = 1
    """stairs: the step of the first decay."""
    decay_every: int = 1
    """stairs: steps between decays."""
    decay: float = 0.5
    """stairs, plateau: the factor of each decay."""
    decay_patience: int = 1
    """plateau: evaluations without a gain before a decay."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """The largest norm of the gradient; inf for any."""
    average: float = 0.0
    """Evaluate a moving average of the parameters, with this decay a step; 0 for none."""

    on_nan: Literal["skip", "stop", "rollback"] = "skip"
    """When a loss, gradient or carry is not finite: pass over that batch, stop, or go
    back to the last regular checkpoint and pass over all batches since."""
    nan_limit: int = 10
    """Stop after so many batches passed over in a row (skip), or so many ways back."""
    skip_batches: tuple[str, ...] = ()
    """Steps to pass over, as FIRST:LAST, both included, numbered as in metrics.jsonl."""

    eval_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 50
    patience: int | None = None
    """Stop after so many evaluations without a better one."""

    @property
    def free(self) -> frozenset[str]:
        """The options that change no bit of the result, so may differ between starts."""
        free = {
            "run_dir",
            "data",
            "resume",
            "allow_change",
            "distributed",
            "log_every",
            "on_nan",
            "nan_limit",
            "skip_batches",
        }
        if self.on_nan != "rollback":
            free.add("checkpoint_every")
        return frozenset(free)

    @property
    def halt_after(self) -> int:
        """The batches in a row that are not finite after which the state is frozen.

        Raises ValueError for a limit below 1.
        """
        if self.nan_limit < 1:
            raise ValueError(f"nan_limit must be 1 or more, got {self.nan_limit}")
        return self.nan_limit if self.on_nan == "skip" else 1

    @property
    def averages(self) -> bool:
        """Whether averages of the parameters are kept.

        Raises ValueError for an `average` outside of [0, 1).
        """
        if not 0 <= self.average < 1:
            raise ValueError(f"average must lie in [0, 1), got {self.average}")
        return self.average > 0

    def plan(self) -> Plan:
        """Raises ValueError for numbers out of range."""
        return Plan(
            steps=self.steps,
            eval_every=self.eval_every,
            checkpoint_every=self.checkpoint_every,
            log_every=self.log_every,
            patience=self.patience,
        )

    def make_optimiser(self, updates_per_step: int = 1) -> Optimiser:
        """With a schedule in steps of `updates_per_step` updates each.

        Raises ValueError for numbers out of range.
        """
        schedule = make_schedule(
            self.schedule,
            self.learning_rate,
            steps=self.steps,
            warmup=int(self.warmup * self.steps),
            decay_begin=self.decay_begin,
            decay_every=self.decay_every,
            decay=self.decay,
        )
        plateau = None
        if self.schedule == "plateau":
            plateau = make_plateau(self.decay, self.decay_patience)
        transform = make_transform(
            self.optimiser,
            lambda updates: schedule(jnp.asarray(updates) // updates_per_step),
            self.weight_decay,
            self.clip,
            self.momentum,
        )
        return Optimiser(transform, schedule, plateau)

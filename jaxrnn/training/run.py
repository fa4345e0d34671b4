"""A training run in its folder: begun or gone on with, trained, measured, summed up."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optax

from jaxrnn.training.checkpoint import CheckpointStore
from jaxrnn.training.digest import digest_tree
from jaxrnn.training.lock import RunLock
from jaxrnn.training.loop import Plan, train
from jaxrnn.training.metrics import MetricsLog
from jaxrnn.training.plot import plot_losses
from jaxrnn.training.progress import Progress, quality
from jaxrnn.training.run_directory import RunDirectory, write_json
from jaxrnn.training.state import TrainState, count
from jaxrnn.training.step import Loss, make_mesh, make_train_step, place_batch, place_state
from jaxrnn.training.stop import StopRequest


@dataclass(frozen=True)
class Task:
    """What is trained: all that differs between one experiment and another."""

    state: TrainState  # before the first update
    loss: Loss
    optimiser: optax.GradientTransformation
    schedule: optax.Schedule  # the optimiser's own
    batch: Callable[[int], Any]  # of update n: arrays [T, B, ...], or [B]
    evaluate: Callable[[Any], float]  # params -> validation loss
    test: Callable[[Any], float] | None  # params -> test loss, where there is a test set
    unit: str  # what the losses are counted in, such as "character"
    tokens_per_step: int


class Run:
    """A context manager that holds the folder's lock and its checkpoints.

    Entering begins the run or goes on with the one in the folder, as `resume` says.
    Raises ValueError if the folder holds another run, is locked, or cannot be restored.
    """

    def __init__(
        self,
        task: Task,
        plan: Plan,
        path: Path,
        description: dict[str, Any],
        resume: str,
        free: frozenset[str],
    ) -> None:
        self.task, self.plan = task, plan
        self.directory = RunDirectory(path)
        self._description, self._resume, self._free = description, resume, free
        self._stack = ExitStack()

    def __enter__(self) -> "Run":
        with ExitStack() as stack:
            stack.enter_context(RunLock(self.directory.path))
            self.directory.enter(self._description, self._resume, self._free)
            self.store = stack.enter_context(CheckpointStore(self.directory.path))
            self.mesh = make_mesh()
            self.state = place_state(self.task.state, self.mesh)
            self.seconds = 0.0
            restored = self.store.restore(self.state)
            if restored is not None:
                self.state, self.seconds = restored.state, restored.record["seconds"]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def train(self, stop: StopRequest) -> bool:
        """Trains to the end of the plan or until `stop`; whether it reached the end."""
        task, step = self.task, int(self.state.step)
        log = MetricsLog(self.directory.metrics)
        log.cut_back(step)
        with Progress(
            self.plan.steps, step, task.tokens_per_step, task.unit, self.seconds
        ) as progress:
            if step:
                progress.say(f"going on from step {step} of {self.directory.path}")
            self.state = train(
                self.state,
                plan=self.plan,
                train_step=make_train_step(task.loss, task.optimiser, task.schedule),
                batch=lambda n: place_batch(task.batch(n), self.mesh),
                evaluate=task.evaluate,
                store=self.store,
                log=log,
                progress=progress,
                stop=stop,
            )
            self.seconds = progress.seconds
        return int(self.state.step) == self.plan.steps

    def finish(self) -> dict[str, Any]:
        """Writes loss.png and result.json, with the test loss of the best parameters."""
        task, state = self.task, self.state
        plot_losses(self.directory.metrics, self.directory.picture, task.unit)
        result = {
            "step": int(state.step),
            "best_step": int(state.best_step),
            "valid_loss": float(state.best_loss),
            "unit": f"nats/{task.unit}",
            "tokens_per_second": int(state.step) * task.tokens_per_step / self.seconds,
            "seconds": self.seconds,
            "parameters": count(state.params),
            "state_sha256": digest_tree(state),
        }
        best = self.store.restore_best(state)
        if task.test is not None and best is not None:
            result["test_loss"] = task.test(best.state.params)
        write_json(self.directory.result, result)
        for name in ("valid_loss", "test_loss"):
            if name in result:
                loss = result[name]
                print(f"{name}: {loss:.4f} {result['unit']}, {quality(loss, task.unit)}")
        return result

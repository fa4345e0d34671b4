"""The training loop: update, evaluate, save, and stop in good order."""

from dataclasses import dataclass, field
from typing import Any

import jax
from jax import Array

from jaxrnn.training.evaluation import Cut, Watch, watching
from jaxrnn.training.run.metrics import MetricsLog
from jaxrnn.training.run.progress import Progress
from jaxrnn.training.run.samples import said
from jaxrnn.training.run.skips import Skips
from jaxrnn.training.run.stop import StopRequest
from jaxrnn.training.state import TrainState
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.trainer import Trainer

# Steps that the devices may be behind the loop. Without a bound, eight devices of one host
# come to wait for one another until XLA ends the process.
IN_FLIGHT = 4


@dataclass(frozen=True)
class Plan:
    """How long to train and what to do on the way, in steps.

    Training ends at `steps`, or after `patience` evaluations without a better one.
    """

    steps: int
    eval_every: int
    checkpoint_every: int
    log_every: int
    patience: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")

    def evaluates(self, step: int) -> bool:
        return step % self.eval_every == 0 or step == self.steps

    def ends(self, step: int, best_step: int) -> bool:
        """Whether a run at `step`, best so far at `best_step`, is at its end."""
        if step >= self.steps:
            return True
        patience = self.patience
        return patience is not None and step - best_step >= patience * self.eval_every


class Halted(Exception):
    """Numbers that are not finite stopped the state at `step`, and nothing moves it."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss, gradient or carry of step {step} is not finite")
        self.step = step


def shown_until(stop: StopRequest, progress: Progress, every: int) -> Watch:
    """Shows where an evaluation is, and cuts it short at `stop`, on which several processes
    agree every `every` batches."""

    def watch(done: int, total: int) -> None:
        if stop.agreed(done % every == 0):
            raise Cut
        progress.evaluating(done, total)

    return watch


@dataclass
class Loop:
    """Trains from `state` to the plan's end, or until it is to stop.

    Steps that `skips` covers learn nothing. Whatever the way `run` ends, the state is saved
    then, and training on from it gives the same bits as never having ended.
    """

    trainer: Trainer
    plan: Plan
    store: CheckpointStore
    log: MetricsLog
    progress: Progress
    skips: Skips
    state: TrainState
    # Whether this step's evaluation is still to be done: one that the stop comes upon is
    # cut short, and is the first thing to do when training goes on.
    evaluation_due: bool
    _unwritten: list[tuple[int, dict[str, Array]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.step, self.best_step = int(self.state.step), int(self.state.best_step)
        self._saved = self.step in self.store.steps()
        self._evaluates = self.trainer.measures("valid")

    def run(self, stop: StopRequest) -> None:
        """Raises Halted when the step froze the state, and ValueError for an evaluation
        without the figure that decides."""
        plan = self.plan
        if not self._saved:
            # A disk that cannot be written to shows now, before anything can be lost.
            self._save()
            self.store.wait()
        while self.evaluation_due or not (
            self._ends or stop.agreed(self.step % plan.log_every == 0)
        ):
            if not self.evaluation_due:
                self._learn()
            if self.evaluation_due and not self._evaluate(stop):
                break
            if self.step == self.best_step or self.step % plan.checkpoint_every == 0:
                self._save()
        if not self._saved:
            self._save(lasting=self._ends and not self.evaluation_due)
        self.store.wait()

    @property
    def _ends(self) -> bool:
        return self.plan.ends(self.step, self.best_step)

    def _learn(self) -> None:
        """One step."""
        if len(self._unwritten) >= IN_FLIGHT:
            jax.block_until_ready(self._unwritten[-IN_FLIGHT][1])
        if self.skips.covers(self.step + 1):
            self._write_training()  # a state that was halted must not move
            self.state, metrics = self.state.passed_over(), {}
        else:
            batch = self.trainer.batch(self.step)
            self.state, metrics = self.trainer.step(self.state, batch)
        self.step, self._saved = self.step + 1, False
        self.evaluation_due = self._evaluates and self.plan.evaluates(self.step)
        self._unwritten.append((self.step, metrics))
        if self.step % self.plan.log_every == 0:
            self._write_training()

    def _evaluate(self, stop: StopRequest) -> bool:
        """The evaluation of this step; whether it was done before `stop` came."""
        self._write_training()
        try:
            with watching(shown_until(stop, self.progress, self.plan.log_every)):
                figures = self.trainer.evaluate(self.state, "valid")
        except Cut:
            return False
        self.state = self.trainer.after_evaluation(
            self.state, self.trainer.problem.deciding(figures)
        )
        self.best_step = int(self.state.best_step)
        self._saved = self.evaluation_due = False
        measured = {f"valid_{name}": x for name, x in figures.items()}
        sample = said(self.trainer.problem, self.state.evaluated_params)
        self.log.write([{"step": self.step} | measured | sample])
        self.progress.evaluation(self.step, figures, self.best_step == self.step)
        return True

    def _save(self, *, lasting: bool = True) -> None:
        self._write_training()
        best = self.best_step == self.step > 0
        record = {"seconds": self.progress.seconds} | self.skips.record()
        self.store.save(
            self.step,
            self.state,
            loss=float(self.state.evaluations.best_loss) if best else None,
            record=record | ({"evaluation_due": True} if self.evaluation_due else {}),
            lasting=lasting,
        )
        self._saved = True

    def _write_training(self) -> None:
        done = int(self.state.step)
        halted = done < self.step
        rows = [as_row(n, metrics) for n, metrics in self._unwritten if n <= done]
        self._unwritten.clear()
        if rows:
            self.log.write(rows, {"tokens_per_second": self.progress.speed(self.step)})
        if halted:
            raise Halted(done)
        told = {name: number for row in rows for name, number in row.items()}
        if told:
            self.progress.training(self.step, told.get("loss"), told.get("learning_rate"))


def as_row(step: int, metrics: dict[str, Array]) -> dict[str, Any]:
    """A line of the log; an empty one says that the step was passed over as asked."""
    if not metrics:
        return {"step": step, "skipped": "asked for"}
    numbers = {name: float(value) for name, value in metrics.items()}
    finite = numbers.pop("finite", 1.0)
    return {"step": step} | numbers | ({} if finite else {"skipped": "not finite"})

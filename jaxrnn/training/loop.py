"""The training loop: update, evaluate, save, and stop in good order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh

from jaxrnn.training.evaluation import Cut, shown_until, watching
from jaxrnn.training.run.metrics import MetricsLog
from jaxrnn.training.run.progress import Progress
from jaxrnn.training.run.stop import StopRequest
from jaxrnn.training.state import TrainState
from jaxrnn.training.step import place_batch
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.task import Task

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


def train(
    state: TrainState,
    task: Task,
    plan: Plan,
    *,
    evaluation_due: bool,
    mesh: Mesh,
    passed_over: Callable[[int], bool],
    store: CheckpointStore,
    record: Callable[[], dict[str, Any]],
    log: MetricsLog,
    progress: Progress,
    stop: StopRequest,
) -> tuple[TrainState, bool]:
    """Trains from `state` to the plan's end, or until `stop`.

    Returns the last state, and whether the evaluation of its step is still due, as it was
    for `state` if `evaluation_due`: one that `stop` comes upon is cut short, and is the
    first thing to do when training goes on.

    Steps that are `passed_over` learn nothing, and `record` gives the JSON to save beside
    the state. Whatever the way it ends, the state returned is saved, and training on from
    it gives the same bits as never having ended. Raises Halted when the step froze the
    state, and ValueError for an evaluation without the figure that decides.
    """
    step, best_step, due = int(state.step), int(state.best_step), evaluation_due
    saved = step in store.steps()
    unwritten: list[tuple[int, dict[str, Array]]] = []

    def write_training() -> None:
        halted = int(state.step) < step
        rows = [as_row(n, metrics) for n, metrics in unwritten if n <= int(state.step)]
        unwritten.clear()
        log.write(rows)
        if halted:
            raise Halted(int(state.step))
        told = {name: number for row in rows for name, number in row.items()}
        if told:
            progress.training(step, told.get("loss"), told.get("learning_rate"))

    def save(*, lasting: bool = True) -> None:
        nonlocal saved
        write_training()
        store.save(
            step,
            state,
            loss=float(state.best_loss) if best_step == step > 0 else None,
            record=record() | ({"evaluation_due": True} if due else {}),
            lasting=lasting,
        )
        saved = True

    if not saved:
        # A disk that cannot be written to shows now, before anything can be lost.
        save()
        store.wait()
    while due or not (
        plan.ends(step, best_step) or stop.agreed(step % plan.log_every == 0)
    ):
        if not due:
            if len(unwritten) >= IN_FLIGHT:
                jax.block_until_ready(unwritten[-IN_FLIGHT][1])
            if passed_over(step + 1):
                write_training()  # a state that was halted must not move
                state, metrics = state.passed_over(), {}
            else:
                state, metrics = task.train_step(state, place_batch(task.batch(step), mesh))
            step, saved, due = step + 1, False, plan.evaluates(step + 1)
            unwritten.append((step, metrics))
            if step % plan.log_every == 0:
                write_training()
        if due:
            write_training()
            try:
                with watching(shown_until(stop, progress, plan.log_every)):
                    figures = task.validate(state.evaluated_params)
            except Cut:
                break
            state = state.with_evaluation(figures[task.decides], task.plateau)
            best_step, saved, due = int(state.best_step), False, False
            log.write(
                [{"step": step} | {f"valid_{name}": x for name, x in figures.items()}]
            )
            progress.evaluation(step, figures, best_step == step)
        if step == best_step or step % plan.checkpoint_every == 0:
            save()
    if not saved:
        save(lasting=plan.ends(step, best_step) and not due)
    store.wait()
    return state, due


def as_row(step: int, metrics: dict[str, Array]) -> dict[str, Any]:
    """A line of the log; an empty one says that the step was passed over as asked."""
    if not metrics:
        return {"step": step, "skipped": "asked for"}
    numbers = {name: float(value) for name, value in metrics.items()}
    finite = numbers.pop("finite", 1.0)
    return {"step": step} | numbers | ({} if finite else {"skipped": "not finite"})

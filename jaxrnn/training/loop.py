"""The training loop: update, evaluate, save, and stop in good order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jax import Array
from jax.sharding import Mesh

from jaxrnn.training.checkpoint import CheckpointStore
from jaxrnn.training.metrics import MetricsLog
from jaxrnn.training.progress import Progress
from jaxrnn.training.state import TrainState
from jaxrnn.training.step import place_batch
from jaxrnn.training.stop import StopRequest
from jaxrnn.training.task import Task


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
    mesh: Mesh,
    passed_over: Callable[[int], bool],
    store: CheckpointStore,
    record: Callable[[], dict[str, Any]],
    log: MetricsLog,
    progress: Progress,
    stop: StopRequest,
) -> TrainState:
    """Trains from `state` to the plan's end, or until `stop`; returns the last state.

    Steps that are `passed_over` learn nothing, and `record` gives the JSON to save beside
    the state. An evaluation belongs to its step: it is done before that step is saved.
    Whatever the way it ends, the state returned is saved, and training on from it gives
    the same bits as never having ended. Raises Halted when the step froze the state.
    """
    step, best_step = int(state.step), int(state.best_step)
    unwritten: list[tuple[int, dict[str, Array]]] = []

    def write_training() -> None:
        halted = int(state.step) < step
        rows = [as_row(n, metrics) for n, metrics in unwritten if n <= int(state.step)]
        unwritten.clear()
        log.write(rows)
        if halted:
            raise Halted(int(state.step))
        learned = [row for row in rows if "loss" in row]
        if learned:
            progress.training(step, learned[-1]["loss"], learned[-1]["learning_rate"])

    def save(*, lasting: bool = True) -> None:
        write_training()
        store.save(
            step,
            state,
            loss=float(state.best_loss) if best_step == step > 0 else None,
            record=record(),
            lasting=lasting,
        )

    if step not in store.steps():
        # A disk that cannot be written to shows now, before anything can be lost.
        save()
        store.wait()
    while not plan.ends(step, best_step) and not stop.agreed(step % plan.log_every == 0):
        if passed_over(step + 1):
            write_training()  # a state that was halted must not move
            state, metrics = state.passed_over(), {}
        else:
            state, metrics = task.train_step(state, place_batch(task.batch(step), mesh))
        step += 1
        unwritten.append((step, metrics))
        if step % plan.log_every == 0:
            write_training()
        if step % plan.eval_every == 0 or step == plan.steps:
            write_training()
            figures = task.evaluate(state.evaluated_params)
            state = state.with_evaluation(figures[task.decides], task.plateau)
            best_step = int(state.best_step)
            log.write(
                [{"step": step} | {f"valid_{name}": x for name, x in figures.items()}]
            )
            progress.evaluation(step, figures, best_step == step)
        if step == best_step or step % plan.checkpoint_every == 0:
            save()
    if step not in store.steps():
        save(lasting=plan.ends(step, best_step))
    store.wait()
    return state


def as_row(step: int, metrics: dict[str, Array]) -> dict[str, Any]:
    """A line of the log; an empty one says that the step was passed over as asked."""
    if not metrics:
        return {"step": step, "skipped": "asked for"}
    numbers = {name: float(value) for name, value in metrics.items()}
    finite = numbers.pop("finite", 1.0)
    return {"step": step} | numbers | ({} if finite else {"skipped": "not finite"})

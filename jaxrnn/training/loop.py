"""The training loop: update, evaluate, save, and stop in good order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxrnn.training.checkpoint import CheckpointStore
from jaxrnn.training.metrics import MetricsLog
from jaxrnn.training.progress import Progress
from jaxrnn.training.state import TrainState
from jaxrnn.training.stop import StopRequest


@dataclass(frozen=True)
class Plan:
    """How long to train and what to do on the way, in steps."""

    steps: int
    eval_every: int
    checkpoint_every: int
    log_every: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")


def train(
    state: TrainState,
    *,
    plan: Plan,
    train_step: Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]],
    batch: Callable[[int], Any],
    evaluate: Callable[[Any], float],
    store: CheckpointStore,
    log: MetricsLog,
    progress: Progress,
    stop: StopRequest,
) -> TrainState:
    """Trains from `state` to `plan.steps`, or until `stop` is set; returns the last state.

    `batch(n)` is what update n learns from, `evaluate(params)` gives the validation loss.
    An evaluation belongs to its step: it is done before that step is saved. Whatever the
    way it ends, the state returned is saved, and training on from it gives the same bits
    as never having ended.
    """
    step = int(state.step)
    unwritten: list[tuple[int, dict[str, Array]]] = []

    def write_training() -> None:
        rows = [
            {"step": n} | {name: float(value) for name, value in metrics.items()}
            for n, metrics in unwritten
        ]
        unwritten.clear()
        log.write(rows)
        if rows:
            progress.training(step, rows[-1]["loss"], rows[-1]["learning_rate"])

    def save() -> None:
        write_training()
        best = int(state.best_step) == step
        store.save(
            step,
            state,
            loss=float(state.best_loss) if best else None,
            record={"seconds": progress.seconds},
        )

    while step < plan.steps and not stop:
        state, metrics = train_step(state, batch(step))
        step += 1
        unwritten.append((step, metrics))
        if step % plan.log_every == 0:
            write_training()
        best = False
        if step % plan.eval_every == 0 or step == plan.steps:
            write_training()
            loss = evaluate(state.params)
            best = loss < float(state.best_loss)
            state = state.with_evaluation(loss)
            log.write([{"step": step, "valid_loss": loss}])
            progress.evaluation(step, loss, best)
        if best or step % plan.checkpoint_every == 0:
            save()
    if step not in store.steps():
        save()
    store.wait()
    return state

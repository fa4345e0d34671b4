"""A training run in its folder: begun or gone on with, trained, measured, summed up."""

import importlib.metadata
import platform
from contextlib import ExitStack, closing
from dataclasses import asdict
from typing import Any

import jax

from jaxrnn.extras import require
from jaxrnn.training.evaluation import watching
from jaxrnn.training.processes import first_only, is_first, together
from jaxrnn.training.run.directory import RunDirectory, write_json
from jaxrnn.training.run.events import make_events
from jaxrnn.training.run.loop import Halted, Loop, shown_until
from jaxrnn.training.run.memory import peak_memory
from jaxrnn.training.run.metrics import MetricsLog, read_metrics
from jaxrnn.training.run.options import Options
from jaxrnn.training.run.origin import ORIGIN, Origin, read_origin
from jaxrnn.training.run.plot import plot_losses
from jaxrnn.training.run.progress import Progress, figures_shown
from jaxrnn.training.run.skips import Skips
from jaxrnn.training.run.stop import StopRequest
from jaxrnn.training.state import TrainState, count
from jaxrnn.training.store.checkpoint import CheckpointError, CheckpointStore
from jaxrnn.training.store.digest import digest_tree
from jaxrnn.training.store.lock import RunLock
from jaxrnn.training.store.misfit import misfit
from jaxrnn.training.trainer import Trainer

VERSIONS = ("jaxrnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class NotFinite(ValueError):
    """More numbers are not finite than the options allow."""


class Run:
    """A context manager that holds the folder's lock and its checkpoints.

    Entering begins the run or goes on with the one in the folder, as the options say.
    Raises ValueError if the folder holds another run, is locked, or cannot be restored,
    and ImportError where what shows a run is missing, which an extra brings.
    """

    def __init__(self, trainer: Trainer, options: Options) -> None:
        require("tqdm", "run")
        require("matplotlib", "run")  # now, and not when all is trained
        self.trainer, self.options = trainer, options
        self.problem = trainer.problem
        self.plan = options.plan()
        if self.plan.patience is not None and not trainer.measures("valid"):
            raise ValueError("patience needs a problem with something to validate on")
        self.directory = RunDirectory(options.run_dir)
        self.events = make_events(options.log_to, self.directory.events)
        self.skips = Skips.asked(options.skip_batches)
        self.seconds = 0.0
        self.evaluation_due = False  # of the state's step, where it was cut short
        self._stack = ExitStack()

    def __repr__(self) -> str:
        return f"<Run in {self.options.run_dir}>"

    def __enter__(self) -> "Run":
        with ExitStack() as stack:
            first_only(lambda: stack.enter_context(RunLock(self.directory.path)))
            self.store = CheckpointStore(self.directory.path)
            self.origin = self._read_origin()
            first_only(self._compare)
            stack.enter_context(self.store)
            self.store.sweep()
            self._go_on()
            # Only now, when nothing can be refused any more.
            first_only(self._begin)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    @property
    def ended(self) -> bool:
        ends = self.plan.ends(int(self.state.step), int(self.state.best_step))
        return ends and not self.evaluation_due

    def train(self, stop: StopRequest) -> bool:
        """Trains to the end of the plan or until `stop`; whether it reached the end.

        Raises NotFinite when the options allow no further step, and CheckpointError when
        one cannot be saved.
        """
        if not self.ended:
            first_only(lambda: self.directory.result.unlink(missing_ok=True))
        while True:
            try:
                self._train(stop)
                return self.ended
            except Halted as halted:
                self._go_back(halted)

    def _train(self, stop: StopRequest) -> None:
        step = int(self.state.step)
        log = MetricsLog(self.directory.metrics, self.events)
        with closing(log), self._progress() as progress:
            log.cut_back(step, evaluated=not self.evaluation_due)
            if step:
                progress.say(f"going on from step {step} of {self.directory.path}")
            elif self.origin is not None:
                began = self.options.init_from
                progress.say(f"beginning with step {self.origin.step} of {began}")
            loop = Loop(
                self.trainer,
                self.plan,
                self.store,
                log,
                progress,
                self.skips,
                self.state,
                self.evaluation_due,
            )
            try:
                loop.run(stop)
            finally:
                self.state, self.evaluation_due = loop.state, loop.evaluation_due
                self.seconds = progress.seconds

    def _progress(self) -> Progress:
        return Progress(
            self.plan.steps,
            int(self.state.step),
            self.trainer.tokens_per_step,
            self.problem.unit,
            self.seconds,
            "rows" if self.problem.tokens_per_step is None else "tokens",
        )

    def finish(self, stop: StopRequest | None = None) -> dict[str, Any]:
        """Writes loss.png and result.json, with the test figures of the best parameters,
        or of the last ones where nothing was validated.

        Raises Cut when `stop` comes before they are there; another start measures them.
        """
        problem, state = self.problem, self.state
        result = {
            "step": int(state.step),
            "best_step": int(state.best_step),
            "unit": problem.unit,
            "tokens_per_second": int(state.step)
            * self.trainer.tokens_per_step
            / self.seconds,
            "seconds": self.seconds,
            "skipped_steps": int(state.skipped),
            "parameters": count(state.params),
            "state_sha256": digest_tree(state),
        } | peak_memory()
        measured = {"valid": together(self._figures_of_best)}
        if self.trainer.measures("test"):
            best = self.store.restore_best(self.trainer.like, upgrade=self.trainer.upgrade)
            measured["test"] = self._test(state if best is None else best.state, stop)
        for split, figures in measured.items():
            result |= {f"{split}_{name}": value for name, value in figures.items()}
        first_only(lambda: self._write(result, measured))
        return result

    def _write(self, result: dict[str, Any], measured: dict[str, dict[str, float]]) -> None:
        plot_losses(self.directory.metrics, self.directory.picture, self.problem.unit)
        write_json(self.directory.result, result)
        for split, figures in measured.items():
            if figures:
                print(figures_shown(split, figures, self.problem.unit))

    def _test(self, state: TrainState, stop: StopRequest | None) -> dict[str, float]:
        every = self.plan.log_every
        with (
            self._progress() as progress,
            watching(shown_until(stop or StopRequest(), progress, every)),
        ):
            return self.trainer.evaluate(state, "test")

    def _figures_of_best(self) -> dict[str, float]:
        best = int(self.state.best_step)
        rows = [row for row in read_metrics(self.directory.metrics) if row["step"] == best]
        return {
            name.removeprefix("valid_"): value
            for row in rows
            for name, value in row.items()
            if name.startswith("valid_")
        }

    def _read_origin(self) -> Origin | None:
        """Where the run begins, if that is with another run, and not begun already."""
        if self.options.init_from is None or self.store.steps():
            return None
        like, opened_by = self.trainer.like.params, self.problem.opened_by
        return together(lambda: read_origin(self.options, like, opened_by))

    def _compare(self) -> None:
        options = self.options
        self.description = (
            asdict(options) | self.trainer.fingerprint | dict(self.problem.fingerprint)
        )
        if self.problem.opened_by is not None:
            self.description["opened_by"] = self.problem.opened_by
        if self.origin is not None:
            self.description |= self.origin.description
        elif self.directory.config.is_file():
            former = self.directory.read_config()
            kept = former.keys() & set(ORIGIN)
            self.description |= {name: former[name] for name in kept}
        self.changes = self.directory.compare(
            self.description,
            options.resume,
            free=options.free | {"opened_by"},
            before=options.before,
            misfit=lambda: misfit(
                self.directory.path / "checkpoints", self.trainer.like, self.trainer.upgrade
            ),
            allowed={name.replace("-", "_") for name in options.allow_change},
        )

    def _go_on(self) -> None:
        restored = self.store.restore(self.trainer.like, upgrade=self.trainer.upgrade)
        if restored is None:
            params = None if self.origin is None else self.origin.params
            self.state = self.trainer.init(self.options.seed, params)
        else:
            self.state, self.seconds = restored.state, restored.record["seconds"]
            self.skips = self.skips.joined_by(restored.record)
            self.evaluation_due = restored.record.get("evaluation_due", False)
        first_only(lambda: self._check_log(begins=restored is None))

    def _check_log(self, begins: bool) -> None:
        rows = read_metrics(self.directory.metrics)
        if begins and (rows or self.options.resume == "must"):
            raise CheckpointError(
                f"{self.directory.path} holds a run but no checkpoint to go on from"
            )

    def _begin(self) -> None:
        self.directory.enter(self.description, self.problem.files)
        self._remember()

    def _go_back(self, halted: Halted) -> None:
        """To the last regular checkpoint, to pass over what came after it."""
        options = self.options
        if options.on_nan != "rollback" or self.skips.rollbacks >= options.nan_limit:
            raise NotFinite(
                f"{halted}, and --on-nan {options.on_nan} with --nan-limit "
                f"{options.nan_limit} ends the run here; its checkpoints are untouched"
            )
        restored = self.store.restore_lasting(
            self.trainer.like, upgrade=self.trainer.upgrade
        )
        assert restored is not None  # a run begins by saving
        first, last = restored.step + 1, halted.step
        skips = Skips.asked(options.skip_batches).joined_by(restored.record)
        self.skips = skips.after_rollback(first, last, self.skips.rollbacks + 1)
        self.state, self.evaluation_due = restored.state, False
        if is_first():
            print(
                f"{halted}: back to step {restored.step}; {first} to {last} are passed over"
            )

    def _remember(self) -> None:
        self.directory.remember(
            {
                "step": int(self.state.step),
                "changed": self.changes,
                "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
                "processes": jax.process_count(),
                "python": platform.python_version(),
                "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            }
        )

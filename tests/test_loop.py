"""The loop around a trainer: how far ahead it runs, what it evaluates, how it stops."""

import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments.language_model.config
import experiments.language_model.problem
import experiments.long_lag.config
import experiments.long_lag.trials
import experiments.music.config
import experiments.music.selection
import experiments.sentiment.config
import experiments.sentiment.problem
import experiments.translation.config
import experiments.translation.problem
from jaxrnn.data.batches import Batches
from jaxrnn.training.evaluation import Cut, evenly, watched, watching
from jaxrnn.training.problem import Problem
from jaxrnn.training.run import command
from jaxrnn.training.run.loop import IN_FLIGHT
from jaxrnn.training.run.metrics import read_metrics
from jaxrnn.training.run.options import Options
from jaxrnn.training.run.run import Run
from jaxrnn.training.run.stop import StopRequest
from jaxrnn.training.trainer import Trainer

ROOT = Path(__file__).parent.parent
OPTIONS = Options(
    report=False,
    steps=12,
    eval_every=4,
    checkpoint_every=5,
    log_every=100,
    schedule="plateau",
)


# Optax itself promotes silently.
@pytest.fixture(autouse=True)
def optax_may_promote():
    with jax.numpy_dtype_promotion("standard"):
        yield


class Following(Problem):
    """Two numbers that follow those of the batches, and splits of three batches that are
    told to `at_batch(split, n)` before they are measured on."""

    rows = 1

    def __init__(self, at_batch=lambda split, n: None):
        self.at_batch = at_batch

    def init(self, key):
        return jnp.array([3.0, -2.0]), ()

    def loss(self, params, carry, batch, key):
        noise = jax.random.normal(key, params.shape)
        off = params - batch.mean()
        return jnp.sum(off**2 + 0.1 * noise * params), carry, {"off": jnp.max(off)}

    def batch(self, step, rows):
        return np.full((1, len(rows)), step % 3, np.float32)

    def evaluation(self, split):
        return Batches(range(3), partial(self.told, split))

    def told(self, split, n):
        self.at_batch(split, n)
        return np.full((1, 1), n, np.float32)

    def measure(self, params, carry, batch):
        return {"loss": (jnp.sum(params**2), 1), "other": (1.0, 1)}, carry


def make_trainer(*arguments):
    return OPTIONS.make_trainer(Following(*arguments))


def run_to_the_end(trainer, options, stop=None):
    """Whether it came to its end, and its result, empty if it did not."""
    stop = stop or StopRequest()
    with Run(trainer, options) as run:
        ended = run.train(stop)
        return ended, run.finish(stop) if ended else {}


def remains(run_dir):
    rows = (run_dir / "metrics.jsonl").read_bytes()
    result = json.loads((run_dir / "result.json").read_text())
    return rows, result["state_sha256"], result["valid_loss"], result["test_loss"]


class Pending:
    """A number that a device is still to compute."""

    def __init__(self, step, waited):
        self.step, self.waited = step, waited

    def block_until_ready(self):
        self.waited.append(self.step)
        return self

    def __float__(self):
        return float(self.block_until_ready().step)


def test_the_loop_is_a_few_steps_ahead_of_the_devices_and_no_more(tmp_path):
    begun, waited, ahead = [], [], []

    class Watched(Trainer):
        def step(self, state, batch):
            begun.append(len(begun) + 1)
            ahead.append(begun[-1] - max(waited, default=0))
            state, _ = super().step(state, batch)
            return state, {"loss": Pending(begun[-1], waited)}

    options = replace(OPTIONS, run_dir=tmp_path, eval_every=12, checkpoint_every=12)
    run_to_the_end(Watched(Following(), *options.make_optimiser()), options)
    # Nothing is waited for before that many, and never more than the step so far back.
    assert ahead == [1, 2, 3, 4] + [IN_FLIGHT] * 8 and IN_FLIGHT == 4


EIGHT_DEVICES = """
import sys
from dataclasses import replace
from pathlib import Path
import jax
from experiments.language_model.config import PRESETS
from experiments.language_model.problem import make_problem
from jaxrnn.training.run.run import Run
from jaxrnn.training.run.stop import StopRequest
config = replace(
    PRESETS["tiny"][1], data=Path(sys.argv[1]), run_dir=Path(sys.argv[2]), hidden_size=4,
    sequence_length=4, steps=60, log_every=1000, eval_every=30, average=0.9,
)
trainer = config.make_trainer(make_problem(config))
jax.config.update("jax_log_compiles", True)  # not before: JAX has functions of these names
with Run(trainer, config) as run:
    run.train(StopRequest())
    print(run.finish()["step"])
"""


@pytest.mark.slow
def test_many_devices_keep_up_and_each_program_is_compiled_once(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be\nthat is the question\n" * 30)
    done = subprocess.run(
        [sys.executable, "-c", EIGHT_DEVICES, str(text), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ
        | {
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8 "
            "--xla_backend_optimization_level=0",
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "60"
    # The update; validation and test, of whole batches and the last one.
    assert done.stderr.count("Compiling jit(_update)") == 1
    assert done.stderr.count("Compiling jit(measure)") == 1


# Evaluations that are cut short.


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("undisturbed")
    with jax.numpy_dtype_promotion("standard"):
        ended, _ = run_to_the_end(make_trainer(), replace(OPTIONS, run_dir=run_dir))
    assert ended
    return remains(run_dir)


@pytest.mark.parametrize("step", [4, 8, 12])
def test_a_cut_evaluation_is_done_when_the_run_goes_on(tmp_path, undisturbed, step):
    options = replace(OPTIONS, run_dir=tmp_path)
    stop, seen = StopRequest(), []

    def at_batch(split, n):
        seen.append(n)
        if len(seen) == 3 * (step // 4 - 1) + 2:
            stop.signal = signal.SIGTERM

    assert run_to_the_end(make_trainer(at_batch), options, stop) == (False, {})
    assert seen[-1] == 1, "the last batch is not waited for"
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, step + 1))
    # Once more in the first batch, then right after the evaluation, then to the end.
    assert run_to_the_end(make_trainer(), options, stop) == (False, {})
    later = StopRequest()

    def at_the_last_batch(split, n):
        if n == 2:
            later.signal = signal.SIGTERM

    with Run(make_trainer(at_the_last_batch), options) as run:
        assert run.train(later) == (step == 12) and int(run.state.step) == step
    assert run_to_the_end(make_trainer(), options)[0]
    assert remains(tmp_path) == undisturbed


def test_a_test_that_is_cut_is_done_by_the_next_start(tmp_path, undisturbed):
    options, stop = replace(OPTIONS, run_dir=tmp_path), StopRequest()

    def at_batch(split, n):
        if split == "test":
            stop.signal = signal.SIGTERM

    with Run(make_trainer(at_batch), options) as run:
        assert run.train(stop)
        with pytest.raises(Cut):
            run.finish(stop)
    assert not (tmp_path / "result.json").exists()
    assert run_to_the_end(make_trainer(), options)[0]
    assert remains(tmp_path) == undisturbed


def test_an_evaluation_may_be_watched_from_outside():
    seen = []
    with watching(lambda done, total: seen.append((done, total))):
        assert list(watched("abc", 3)) == ["a", "b", "c"]
    list(watched("abc", 3))  # and is nobody's business elsewhere
    assert seen == [(0, 3), (1, 3), (2, 3)]
    assert evenly(range(10), 3) == [1, 5, 8] and evenly(range(3), 3) == range(3)
    assert evenly(range(3), None) == evenly(range(3), 9) == range(3)


SMALL = {
    "language_model": {"hidden_size": 4},
    "sentiment": {"hidden_size": 4},
    "translation": {"hidden_size": 4, "batch_size": 4},
    "music": {"hidden_size": 3, "batch_size": 2},
    # Three parts, of 256 sequences at most.
    "long_lag": {"test_sequences": 600},
}


def trainer_of(name, config):
    experiment = getattr(experiments, name)
    if name == "music":
        return experiment.selection.make_selection(config)
    if name == "long_lag":
        return experiment.trials.make_trials(config)
    return config.make_trainer(experiment.problem.make_problem(config))


@pytest.mark.parametrize("name, changes", SMALL.items())
def test_an_evaluation_of_few_batches_says_its_share(tmp_path, name, changes):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be\nthat is the question\n" * 300)
    config = getattr(experiments, name).config.PRESETS["tiny"][1]
    changes = changes | ({"data": text} if name == "language_model" else {})
    few = trainer_of(name, replace(config, eval_batches=2, **changes))
    state, seen = few.init(0), []
    with watching(lambda done, total: seen.append((done, total))):
        figures = few.evaluate(state, "test")
    assert seen[-2:] == [(0, 2), (1, 2)]
    assert 0 < figures["share"] < 1 and np.isfinite(figures["loss"])
    whole = trainer_of(name, replace(config, eval_batches=10**6, **changes))
    with watching(lambda done, total: seen.append((done, total))):
        assert "share" not in whole.evaluate(state, "test")
    assert seen[-1][1] > 2
    assert figures["share"] == pytest.approx(2 / seen[-1][1])


class Remembering(Following):
    """Its evaluation has a carry, and seven batches."""

    def evaluation_carry(self, params):
        return jnp.zeros(1)

    def evaluation(self, split):
        return Batches(range(7), partial(self.told, split))


class Forgetting(Remembering):
    evaluation_carry = Problem.evaluation_carry


@pytest.mark.parametrize(
    "kind, chosen", [(Remembering, [0, 1, 2]), (Forgetting, [1, 3, 5])]
)
def test_few_batches_are_the_first_of_a_carry_and_evenly_spaced_without(kind, chosen):
    seen = []
    problem = kind(lambda split, n: seen.append((split, n)))
    trainer = replace(OPTIONS, eval_batches=3).make_trainer(problem)
    figures = trainer.evaluate(trainer.init(0), "valid")
    assert seen == [("valid", n) for n in chosen]
    assert figures == {"loss": 13, "other": 1, "share": pytest.approx(3 / 7)}


# Problems and options of one's own.


def test_a_problem_may_be_learned_twice(tmp_path):
    trainer, results = make_trainer(), []
    for name in ("first", "second"):
        _, result = run_to_the_end(trainer, replace(OPTIONS, run_dir=tmp_path / name))
        results.append(result["state_sha256"])
    assert results[0] == results[1]
    assert trainer.init(0).params.tolist() == [3, -2]


class Erring(Following):
    def measure(self, params, carry, batch):
        return {"error": (jnp.sum(params**2), 1)}, carry


class Decided(Erring):
    decides = "error"


def test_a_problem_is_decided_by_the_figure_it_names(tmp_path):
    class Silent(Trainer):
        def step(self, state, batch):
            state, _ = super().step(state, batch)
            return state, {"error": jnp.float32(1)}

    optimiser = OPTIONS.make_optimiser()
    options = replace(OPTIONS, run_dir=tmp_path / "named")
    ended, result = run_to_the_end(Silent(Decided(), *optimiser), options)
    assert ended and result["valid_error"] > 0 and "valid_loss" not in result
    unnamed = Silent(Erring(), *optimiser)
    with pytest.raises(ValueError, match="decided by 'loss', and its .* only 'error'"):
        run_to_the_end(unnamed, replace(OPTIONS, run_dir=tmp_path / "unnamed"))


def test_what_a_loss_tells_beside_itself_is_logged(tmp_path):
    run_to_the_end(make_trainer(), replace(OPTIONS, run_dir=tmp_path))
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[0]["off"] == 3  # of params [3, -2] and a batch of 0
    assert rows[0].keys() == {"step", "loss", "gradient_norm", "learning_rate", "off"}


class Unmeasured(Following):
    evaluation = Problem.evaluation


def test_a_problem_without_evaluation_trains_and_is_not_stopped_by_patience(tmp_path):
    options = replace(OPTIONS, run_dir=tmp_path / "run")
    trainer = OPTIONS.make_trainer(Unmeasured())
    ended, result = run_to_the_end(trainer, options)
    assert ended and (result["step"], result["best_step"]) == (12, 0)
    assert not any(name.startswith(("valid_", "test_")) for name in result)
    rows = read_metrics(options.run_dir / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert trainer.measure(trainer.init(0).params, "valid") == {}
    impatient = replace(OPTIONS, run_dir=tmp_path / "none", patience=2)
    with pytest.raises(ValueError, match="patience needs .* something to validate on"):
        Run(trainer, impatient)
    assert not impatient.run_dir.exists()


def test_options_are_what_their_file_gives_back(tmp_path):
    plain = replace(OPTIONS, run_dir=tmp_path / "run", learning_rate=1.0, clip=0.5)
    given = replace(
        OPTIONS,
        run_dir=str(tmp_path / "run"),
        learning_rate=1,
        clip=np.float32(0.5),
        steps=np.int64(12),
        seed=jnp.int32(0),
        skip_batches=[],
    )
    assert given == plain and repr(given) == repr(plain)
    run_to_the_end(make_trainer(), given)
    assert run_to_the_end(make_trainer(), plain)[0]
    with pytest.raises(ValueError, match="eval_batches must be 1 or more, got 0"):
        Options(eval_batches=0).make_trainer(Following())


def test_an_error_of_a_problem_shows_where_it_was_raised_if_asked(call, tmp_path):
    def broken() -> Trainer:
        return np.zeros(3) + np.zeros(4)  # pyright: ignore

    for traceback in (False, True):
        options = replace(OPTIONS, run_dir=tmp_path, traceback=traceback)
        code, _, error = call(lambda: command.train(options, broken))  # noqa: B023
        assert code == 2
        last = error.splitlines()[-1]
        assert last.startswith("error: operands could not be broadcast together")
        assert last.endswith(" (--traceback shows where)") == (not traceback)
        assert ("in broken\n" in error) == traceback


# Signals.


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
sys.path.insert(0, {tests!r})
from dataclasses import replace
from test_loop import OPTIONS, make_trainer
from jaxrnn.training.run import command

def at_batch(split, n):
    if "--hold" in sys.argv:
        print("evaluating", flush=True)
        sys.stdin.readline()

run_dir = sys.argv[1]
command.train(replace(OPTIONS, run_dir=run_dir), lambda: make_trainer(at_batch))
"""


def test_a_terminal_that_goes_away_ends_a_script_in_good_order(tmp_path, undisturbed):
    script = tmp_path / "my own.py"
    script.write_text(SCRIPT.format(root=str(ROOT), tests=str(ROOT / "tests")))
    run_dir = tmp_path / "run"
    began = [sys.executable, script.name, str(run_dir)]
    terminal, lines = os.openpty()
    process = subprocess.Popen(
        [*began, "--hold"],
        stdin=subprocess.PIPE,
        stdout=lines,
        stderr=lines,
        cwd=tmp_path,
        start_new_session=True,
    )
    os.close(lines)
    shown = b""
    while b"\n" not in shown.partition(b"evaluating")[2]:  # the whole line: then it waits
        shown += os.read(terminal, 10_000)
    os.close(terminal)
    for _ in range(2):  # by the shell and by the system
        process.send_signal(signal.SIGHUP)
    process.communicate(b"\n" * 3, timeout=60)
    assert process.returncode == 128 + signal.SIGHUP
    assert not (run_dir / "result.json").exists()

    stopped = subprocess.run(
        [*began, "--hold"], input="", capture_output=True, text=True, cwd=tmp_path
    )
    assert stopped.returncode == 0, stopped.stderr
    assert remains(run_dir) == undisturbed
    assert command_of(tmp_path, script.name, str(run_dir), resume="never") == [
        sys.executable,
        script.name,
        str(run_dir),
    ]


def command_of(cwd, *argv, resume="auto"):
    """What `command` says goes on with a script called with `argv`."""
    told = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
        "from jaxrnn.training.run.command import resume_command; "
        "from jaxrnn.training.run.options import Options; "
        f"print(resume_command(Options(resume={resume!r})))"
    )
    (cwd / argv[0]).write_text(told)
    done = subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, cwd=cwd, check=True
    )
    return shlex.split(done.stdout)


def test_a_hangup_is_heeded_unless_it_was_ignored():
    former = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.agreed(True)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.agreed(True) and stop.signal is signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, former)

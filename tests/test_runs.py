"""The hard promise: a run that was interrupted anywhere ends with the same bits."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.language_model import evaluate, sample, train
from jaxrnn.training.lock import RunLock
from jaxrnn.training.metrics import read_metrics
from jaxrnn.training.step_folders import step_folders

ROOT = Path(__file__).parent.parent
STEPS = 30

# Runs the command line that follows, and sends itself a signal before the nth call of a
# function: the same moment however fast the machine is.
INTERRUPTED = """
import importlib, os, runpy, sys
number, target, n = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
del sys.argv[1:4]
module, _, name = target.partition(":")
owner = importlib.import_module(module)
*outer, name = name.split(".")
for part in outer:
    owner = getattr(owner, part)
function, calls = getattr(owner, name), 0

def interrupting(*arguments, **options):
    global calls
    calls += 1
    if calls == n:
        os.kill(os.getpid(), number)
    return function(*arguments, **options)

setattr(owner, name, interrupting)
runpy.run_module("experiments.language_model.train", run_name="__main__", alter_sys=True)
"""
READING = "experiments.language_model.text:Tokenizer.as_json"
COMPILING = "experiments.language_model.task:_nats"
UPDATE = "jaxrnn.training.data:TokenLanes.batch"
EVALUATION = "jaxrnn.training.data:TokenLanes.every_token"
SAVING = "jaxrnn.training.checkpoint:CheckpointStore.save"
WRITING = "orbax.checkpoint:CheckpointManager.save"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def text(home):
    words = "the cat sat on a mat and then one small dog ran far away é ☕".split()
    lines = (" ".join(random.Random(n).choices(words, k=8)) for n in range(300))
    path = home / "text.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def environment(home):
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "JAX_COMPILATION_CACHE_DIR": str(home / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # Compiled as users compile, unlike the rest of the tests.
        "XLA_FLAGS": "",
    }


def options(text, run_dir, **changes):
    values = {
        "data": text,
        "run_dir": run_dir,
        "steps": STEPS,
        "hidden_size": 8,
        "eval_every": 10,
        "checkpoint_every": 7,
        "log_every": 3,
        "sample_length": 20,
    } | changes
    named = ((f"--{name.replace('_', '-')}", str(value)) for name, value in values.items())
    return ["tiny", *(word for pair in named for word in pair)]


def shell(command, environment):
    return subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=ROOT, env=environment
    )


def start(arguments, environment):
    module = "experiments.language_model.train"
    return shell(shlex.join(["python", "-m", module, *arguments]), environment)


def start_and_interrupt(number, target, n, arguments, environment):
    driver = ["python", "-c", INTERRUPTED, str(int(number)), target, str(n)]
    return shell(shlex.join([*driver, *arguments]), environment)


def saved(run_dir):
    return max(step_folders(run_dir / "checkpoints"), default=None)


def result(run_dir):
    return json.loads((run_dir / "result.json").read_text())


def command_after(words, output):
    (line,) = [line for line in output.splitlines() if words in line]
    return line.partition(words)[2].strip()


@pytest.fixture(scope="module")
def finished(home, text, environment):
    """A run that nothing disturbed: its folder, and what it printed."""
    done = start(options(text, home / "finished"), environment)
    assert done.returncode == 0, done.stderr
    return home / "finished", done.stdout


def assert_same_end(run_dir, finished):
    undisturbed, _ = finished
    assert result(run_dir)["step"] == STEPS
    assert result(run_dir)["state_sha256"] == result(undisturbed)["state_sha256"]
    for figure in ("valid_loss", "test_loss", "best_step"):
        assert result(run_dir)[figure] == result(undisturbed)[figure]
    name = "metrics.jsonl"
    assert (run_dir / name).read_bytes() == (undisturbed / name).read_bytes()


def test_a_run_leaves_all_it_promises(finished):
    run_dir, output = finished
    assert {path.name for path in run_dir.iterdir()} >= {
        "config.json",
        "metrics.jsonl",
        "checkpoints",
        "result.json",
        "loss.png",
        "tokenizer.json",
    }
    figures = result(run_dir)
    assert figures["step"] == STEPS and figures["unit"] == "nats/character"
    assert all(figures[name] > 0 for name in ("tokens_per_second", "seconds", "parameters"))
    assert len(figures["state_sha256"]) == 64
    rows = read_metrics(run_dir / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, STEPS + 1))
    evaluations = {row["step"]: row["valid_loss"] for row in rows if "valid_loss" in row}
    assert list(evaluations) == [10, 20, 30]
    best = min(evaluations, key=evaluations.__getitem__)
    assert figures["best_step"] == best
    assert figures["valid_loss"] == pytest.approx(evaluations[best], abs=1e-6)
    assert rows[0]["loss"] > rows[-2]["loss"]
    assert f"valid loss {figures['valid_loss']:.4f}  " in output


def test_a_run_interrupted_anywhere_ends_with_the_same_bits(
    home, text, environment, finished
):
    run_dir = home / "interrupted"
    arguments = options(text, run_dir)
    seed = random.Random(0)
    first, second = seed.randint(2, 4), seed.randint(2, 4)
    step = 0
    for number, moment, n, done in (
        (signal.SIGINT, READING, 1, 0),
        (signal.SIGINT, COMPILING, 1, 1),
        (signal.SIGINT, UPDATE, first, first),
        (signal.SIGINT, EVALUATION, 1, 10 - 1 - first),
        (signal.SIGINT, SAVING, 1, 4),
        (signal.SIGTERM, UPDATE, second, second),
    ):
        stopped = start_and_interrupt(number, moment, n, arguments, environment)
        assert stopped.returncode == 128 + number, stopped.stderr
        assert "Traceback" not in stopped.stderr
        step += done
        assert f"stopped at step {step}; go on with: " in stopped.stdout
        assert saved(run_dir) == step
        assert not (run_dir / "result.json").exists()
    again = shell(command_after("go on with:", stopped.stdout), environment)
    assert again.returncode == 0, again.stderr
    assert f"going on from step {step} " in again.stdout
    assert_same_end(run_dir, finished)


def test_a_run_killed_at_any_moment_ends_with_the_same_bits(
    home, text, environment, finished
):
    run_dir = home / "killed"
    arguments = options(text, run_dir)
    for moment, n, safe in (
        # Only the start is saved yet; then as step 10 is written; then between two steps,
        # with rows in the log of steps that are lost.
        (UPDATE, random.Random(1).randint(1, 6), {0}),
        (WRITING, 2, {7}),
        (UPDATE, 11, {10, 14}),
    ):
        killed = start_and_interrupt(signal.SIGKILL, moment, n, arguments, environment)
        assert killed.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        assert saved(run_dir) in safe
    logged = max(row["step"] for row in read_metrics(run_dir / "metrics.jsonl"))
    assert logged > saved(run_dir)
    again = start(arguments, environment)
    assert again.returncode == 0, again.stderr
    assert_same_end(run_dir, finished)


def test_a_finished_run_started_again_stays_as_it_is(text, environment, finished):
    run_dir, output = finished
    before = result(run_dir), (run_dir / "metrics.jsonl").read_bytes()
    again = shell(command_after("resume:", output), environment)
    assert again.returncode == 0, again.stderr
    assert f"going on from step {STEPS} " in again.stdout
    timeless = {"seconds", "tokens_per_second"}
    for name in before[0].keys() - timeless:
        assert result(run_dir)[name] == before[0][name]
    assert (run_dir / "metrics.jsonl").read_bytes() == before[1]


def test_two_devices_learn_the_same_repeatably(home, text, environment, finished):
    flags = environment.get("XLA_FLAGS", "")
    two = environment | {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=2"}
    # Dropout draws the same masks however the batch is split.
    for name in ("two", "two again"):
        done = start(options(text, home / name), two)
        assert done.returncode == 0, done.stderr
    first, again = result(home / "two"), result(home / "two again")
    assert first["state_sha256"] == again["state_sha256"]
    one = finished[0]
    assert first["state_sha256"] != result(one)["state_sha256"]
    assert first["valid_loss"] == pytest.approx(result(one)["valid_loss"], abs=1e-4)
    losses = [
        [row["loss"] for row in read_metrics(run_dir / "metrics.jsonl") if "loss" in row]
        for run_dir in (home / "two", one)
    ]
    np.testing.assert_allclose(*losses, atol=1e-4)


# In this process, where nothing has to be imported anew.


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls a command line: `call(main, *arguments) -> (exit code, stdout, stderr)`."""

    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        code = 0
        # Strict only where the code is ours: the command lines of users are not.
        with jax.numpy_dtype_promotion("standard"):
            try:
                main()
            except SystemExit as end:
                code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"dropout": 0.2}, "dropout was 0.1 and is now 0.2"),
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"data": "OTHER"}, "data_sha256 was '"),
        ({"data": "nowhere.txt"}, "no data at nowhere.txt"),
        ({"data": "EMPTY"}, "tokens are too few"),
        ({"resume": "never"}, "holds a run already and --resume is never"),
        ({"resume": "must", "run_dir": "NEW"}, "holds no run and --resume is must"),
        ({"run_dir": "OTHER"}, "File exists"),
        ({"cell": "lsmt"}, "unknown cell 'lsmt'; known: elman, "),
        ({"batch_size": 0}, "got 0 of 16"),
        ({"layers": 0}, "at least one layer, got none"),
        ({"hidden_size": 0}, "needs hidden_size of 1 or more, got 0"),
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"warmup": 1.0}, "less than the 30 steps, got 30"),
    ],
    ids=str,
)
def test_a_refusal_is_one_sentence_and_changes_nothing(
    call, tmp_path, text, finished, changes, reason
):
    places = {
        "OTHER": tmp_path / "other.txt",
        "EMPTY": tmp_path / "empty.txt",
        "NEW": tmp_path / "new",
    }
    places["OTHER"].write_text(text.read_text(encoding="utf-8") + "x", encoding="utf-8")
    places["EMPTY"].write_text("")
    run_dir, _ = finished
    before = {
        path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.is_file()
    }
    changes = {name: places.get(value, value) for name, value in changes.items()}
    code, _, error = call(train.main, *options(text, **{"run_dir": run_dir} | changes))
    assert code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and reason in error
    after = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.is_file()}
    del before[run_dir / "lock.json"], after[run_dir / "lock.json"]
    assert after == before


def test_a_run_in_use_is_refused(call, text, finished):
    run_dir, _ = finished
    with RunLock(run_dir):
        code, _, error = call(train.main, *options(text, run_dir))
    assert (code, error.count("\n")) == (2, 1)
    assert f"is being written to by process {os.getpid()}" in error


@pytest.mark.parametrize("arguments", [["--hiden-size", "8"], ["--layers", "two"]], ids=str)
def test_an_option_that_is_none_is_named(text, home, environment, arguments):
    refused = start([*options(text, home / "unused"), *arguments], environment)
    assert refused.returncode == 2
    assert arguments[0] in refused.stderr and "Traceback" not in refused.stderr
    assert not (home / "unused").exists()


@pytest.mark.parametrize("main", [sample.main, evaluate.main])
def test_what_is_no_run_can_neither_write_nor_be_measured(call, tmp_path, main):
    code, _, error = call(main, tmp_path / "none")
    assert (code, error.count("\n")) == (2, 1)
    assert f"no run at {tmp_path / 'none'}" in error
    assert not (tmp_path / "none").exists()


def test_the_printed_command_writes_text(environment, finished):
    _, output = finished
    written = shell(command_after("sample:", output), environment)
    assert written.returncode == 0, written.stderr
    # A line break, the prompt, before 500 characters, and one after.
    unknown_is_one = written.stdout.replace("<unk>", "?")
    assert len(unknown_is_one) == 502 and unknown_is_one[0] == "\n"


def test_samples_are_reproducible_and_follow_their_options(call, finished):
    run_dir, _ = finished
    seen = {}
    for name, arguments in {
        "once": [],
        "again": [],
        "another seed": ["--seed", 1],
        "three": ["--samples", 3],
        "greedy": ["--temperature", 0],
        "one of one": ["--top-k", 1],
        "nucleus of one": ["--top-p", 1e-6],
        "few": ["--top-k", 3],
        "nucleus": ["--top-p", 0.3],
    }.items():
        code, seen[name], error = call(
            sample.main, run_dir, "--prompt", "the ", "--length", 40, *arguments
        )
        assert (code, error) == (0, "")
        assert seen[name].startswith("the ")
    assert seen["once"] == seen["again"]
    differing = ("once", "another seed", "greedy", "few", "nucleus")
    assert len({seen[name] for name in differing}) == 5
    assert seen["greedy"] == seen["one of one"] == seen["nucleus of one"]
    three = seen["three"].split(f"\n{'-' * 72}\n")
    assert len(set(three)) == 3 and all(text.startswith("the ") for text in three)


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--prompt", ""], "T of 1 or more"),
        (["--length", 0], "length must be 1 or more, got 0"),
        (["--samples", 0], "samples must be 1 or more, got 0"),
        (["--temperature", -1], "temperature must be 0 or more, got -1"),
        (["--top-p", 2], "top_p must lie in (0, 1], got 2"),
    ],
    ids=str,
)
def test_samples_that_cannot_be_are_refused(call, finished, arguments, reason):
    code, out, error = call(sample.main, finished[0], *arguments)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert reason in error


def test_an_evaluation_measures_what_the_run_measured(call, tmp_path, text, finished):
    run_dir, _ = finished
    code, out, error = call(evaluate.main, run_dir)
    assert (code, error) == (0, "")
    figures = json.loads(out.splitlines()[-1])
    for name in ("valid_loss", "test_loss"):
        assert figures[name] == pytest.approx(result(run_dir)[name], abs=1e-6)

    moved = tmp_path / "moved.txt"
    moved.write_bytes(text.read_bytes())
    code, out, _ = call(evaluate.main, run_dir, "--data", moved, "--lanes", 1)
    assert code == 0
    alone = json.loads(out.splitlines()[-1])["valid_loss"]
    # One lane knows more of the past: close, but not the same.
    assert 0 < abs(alone - figures["valid_loss"]) < 0.05

    moved.write_bytes(text.read_bytes() + b"x")
    code, out, error = call(evaluate.main, run_dir, "--data", moved)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "the text has the SHA-256" in error


def test_a_run_that_had_to_be_new_writes_and_goes_on_before_its_first_evaluation(
    home, call, text, environment
):
    run_dir = home / "with a space"
    arguments = options(text, run_dir, resume="never")
    stopped = start_and_interrupt(signal.SIGTERM, UPDATE, 2, arguments, environment)
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    code, out, error = call(sample.main, run_dir, "--prompt", "the cat", "--length", 5)
    assert (code, error) == (0, "") and out.startswith("the cat")
    again = shell(command_after("go on with:", stopped.stdout), environment)
    assert again.returncode == 0, again.stderr
    assert result(run_dir)["step"] == STEPS

"""The hard promise: a run that was interrupted anywhere ends with the same bits."""

import json
import os
import re
import signal

import arena as moments
import pytest
from arena import STEPS, Arena, Blow, command_after, result

from experiments.language_model import evaluate, explain, plot, sample, train
from experiments.language_model.run import Trained
from jaxrnn.training.run.metrics import read_metrics
from jaxrnn.training.store.lock import RunLock


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    return Arena.create(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def finished(arena):
    """A run that nothing disturbed: its folder, and what it printed."""
    done = arena.start(arena.options(arena.home / "finished"))
    assert done.returncode == 0, done.stderr
    return arena.home / "finished", done.stdout


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


def test_a_finished_run_started_again_stays_as_it_is(arena, finished):
    run_dir, output = finished
    before = result(run_dir), (run_dir / "metrics.jsonl").read_bytes()
    again = arena.shell(command_after("resume:", output))
    assert again.returncode == 0, again.stderr
    assert f"going on from step {STEPS} " in again.stdout
    of_its_process = {"seconds", "tokens_per_second", "host_peak_bytes"}
    for name in before[0].keys() - of_its_process:
        assert result(run_dir)[name] == before[0][name]
    assert (run_dir / "metrics.jsonl").read_bytes() == before[1]


# In this process, where nothing has to be imported anew.


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"dropout": 0.2}, "dropout was 0.1 and is now 0.2"),
        ({"seed": 1}, "seed was 0 and is now 1 (for a new run: another --run-dir; to go"),
        ({"hidden_size": 9}, "that one cannot go on so, its checkpoint does not fit: "),
        ({"batch_size": 4}, "was saved as float32[8, 4] and float32[4, 4] is wanted)"),
        ({"cell": "gru"}, "cannot go on so"),
        ({"optimiser": "sgd"}, "checkpoint does not fit: it lacks opt_state/"),
        ({"eval_batches": 2}, "eval_batches was None and is now 2"),
        ({"eval_batches": 0}, "eval_batches must be 1 or more, got 0"),
        ({"hidden_size": 9, "allow_change": "hidden_size"}, " does not fit: "),
        ({"data": "OTHER"}, "data_sha256 was '"),
        ({"data": "nowhere.txt"}, "no data at nowhere.txt"),
        ({"data": "EMPTY"}, "empty.txt is empty"),
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
    call, tmp_path, arena, finished, changes, reason
):
    places = {
        "OTHER": tmp_path / "other.txt",
        "EMPTY": tmp_path / "empty.txt",
        "NEW": tmp_path / "new",
    }
    places["OTHER"].write_text(
        arena.text.read_text(encoding="utf-8") + "x", encoding="utf-8"
    )
    places["EMPTY"].write_text("")
    run_dir, _ = finished
    before = {
        path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.is_file()
    }
    changes = {name: places.get(value, value) for name, value in changes.items()}
    code, _, error = call(train.main, *arena.options(**{"run_dir": run_dir} | changes))
    assert code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and reason in error
    after = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.is_file()}
    del before[run_dir / "lock.json"], after[run_dir / "lock.json"]
    assert after == before


def test_a_run_in_use_is_refused(call, arena, finished):
    run_dir, _ = finished
    with RunLock(run_dir):
        code, _, error = call(train.main, *arena.options(run_dir))
    assert (code, error.count("\n")) == (2, 1)
    assert f"is being written to by process {os.getpid()}" in error


@pytest.mark.parametrize("arguments", [["--hiden-size", "8"], ["--layers", "two"]], ids=str)
def test_an_option_that_is_none_is_named(arena, arguments):
    refused = arena.start([*arena.options(arena.home / "unused"), *arguments])
    assert refused.returncode == 2
    assert arguments[0] in refused.stderr and "Traceback" not in refused.stderr
    assert not (arena.home / "unused").exists()


@pytest.mark.parametrize("main", [sample.main, evaluate.main, plot.main])
def test_what_is_no_run_can_neither_write_nor_be_measured(call, tmp_path, main):
    code, _, error = call(main, tmp_path / "none")
    assert (code, error.count("\n")) == (2, 1)
    assert f"no run at {tmp_path / 'none'}" in error
    assert not (tmp_path / "none").exists()


def test_the_printed_command_writes_text(arena, finished):
    _, output = finished
    written = arena.shell(command_after("sample:", output))
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
        (["--prompt", ""], "needs at least one character, got ''"),
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


def test_an_evaluation_measures_what_the_run_measured(call, tmp_path, arena, finished):
    run_dir, _ = finished
    code, out, error = call(evaluate.main, run_dir)
    assert (code, error) == (0, "")
    figures = json.loads(out.splitlines()[-1])
    for name in ("valid_loss", "test_loss"):
        assert figures[name] == pytest.approx(result(run_dir)[name], abs=1e-6)

    moved = tmp_path / "moved.txt"
    moved.write_bytes(arena.text.read_bytes())
    code, out, _ = call(evaluate.main, run_dir, "--data", moved, "--lanes", 1)
    assert code == 0
    alone = json.loads(out.splitlines()[-1])["valid_loss"]
    # One lane knows more of the past: close, but not the same.
    assert 0 < abs(alone - figures["valid_loss"]) < 0.05

    moved.write_bytes(arena.text.read_bytes() + b"x")
    code, out, error = call(evaluate.main, run_dir, "--data", moved)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "the data have the SHA-256" in error


@pytest.mark.parametrize(
    "arguments, ways",
    [
        (["--dynamic", "sgd", "--dynamic-rate", 0.5, "--dynamic-decay", 0], 1),
        (["--dynamic", "rms", "--dynamic-rate", 1e-9, 1e-2, "--statistics-lanes", 9], 2),
        (["--cache-window", 200, "--cache-theta", 0.5, 2, "--cache-share", 0.01, 0.4], 4),
    ],
    ids=str,
)
def test_an_evaluation_takes_in_what_it_reads(call, finished, arguments, ways):
    run_dir, _ = finished
    short = ["--lanes", 8, "--dynamic-segment", 16, "--grid-batches", 3]
    code, out, error = call(evaluate.main, run_dir, *arguments, *short)
    assert (code, error) == (0, "")
    *told, last = out.splitlines()
    assert len(told) == (ways + 2 if ways > 1 else 2)
    figures = json.loads(last)
    assert 0 < abs(figures["test_loss"] - result(run_dir)["test_loss"]) < 0.5
    tried = {line.partition("  valid")[0]: line for line in told[:-2]}
    assert len(tried) == (ways if ways > 1 else 0)
    if ways > 1:  # the one that is told is the one that was best
        losses = {
            name: float(re.search(r"loss ([0-9.]+)", line)[1])
            for name, line in tried.items()
        }
        best = min(losses, key=losses.__getitem__)
        assert best == "  ".join(f"{k} {figures[k]:g}" for k in list(figures)[:-2])


def test_one_way_at_a_time(call, finished):
    both = "--dynamic", "sgd", "--cache-window", 9
    code, out, error = call(evaluate.main, finished[0], *both)
    assert (code, out) == (2, "") and "one of --dynamic and --cache-window" in error


@pytest.mark.parametrize(
    "way, why",
    [
        (["--dynamic", "rms"], "takes the training text"),
        (["--cache-window", 9, 99], "chosen on the validation text"),
    ],
)
def test_another_text_has_no_other_splits(call, tmp_path, finished, way, why):
    (tmp_path / "text").write_text("the cat sat on the mat")
    code, _, error = call(evaluate.main, finished[0], "--text", tmp_path / "text", *way)
    assert (code, error.count("\n")) == (2, 1) and why in error


def test_any_text_is_measured_from_end_to_end(call, tmp_path, finished):
    run_dir, _ = finished
    for name, text in (("a.txt", "the cat sat"), ("b.txt", "on a mat ☕ zzz")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    code, out, error = call(evaluate.main, run_dir, "--text", tmp_path)
    assert code == 0 and "3 character(s) not seen in training" in error
    whole = Trained.load(run_dir).nats("the cat sat\non a mat ☕ zzz")
    (loss,) = json.loads(out.splitlines()[-1]).values()
    assert loss == pytest.approx(whole.mean(), rel=1e-5)
    code, _, error = call(evaluate.main, run_dir, "--text", tmp_path / "none")
    assert (code, error.count("\n")) == (2, 1) and "no data at" in error


def test_a_run_is_drawn_and_a_text_coloured_by_one_of_its_units(call, tmp_path, finished):
    run_dir, _ = finished
    picture, page = tmp_path / "memory.png", tmp_path / "unit.html"
    code, _, error = call(plot.main, run_dir, "--tokens", 10**6)
    assert (code, error.count("\n")) == (2, 1) and "or fewer, got 1000000" in error
    code, _, error = call(plot.main, run_dir, "--lanes", 0, "--picture", picture)
    assert (code, error.count("\n")) == (2, 1) and "got 200 and 0" in error
    assert not picture.exists()
    code, out, error = call(plot.main, run_dir, "--tokens", 20, "--picture", picture)
    assert (code, out, error) == (0, f"{picture}\n", "")
    assert picture.read_bytes().startswith(b"\x89PNG")

    code, out, _ = call(explain.main, run_dir, "the <cat", "--page", page)
    assert code == 0 and out.endswith(f"of layer 0: {page}\n")
    letters = re.findall(r'title="-?[0-9.]+">(.*?)</span>', page.read_text())
    assert len(letters) == 8 and letters[:4] == list("the ")
    for option, number, reason in (
        ("--unit", 4, "unit must lie in [0, 4), got 4"),
        ("--layer", 1, "layer must lie in [0, 1), got 1"),
    ):
        code, _, error = call(explain.main, run_dir, "the", option, number)
        assert (code, error.count("\n")) == (2, 1) and reason in error
    code, _, error = call(explain.main, run_dir, "")
    assert code == 2 and "at least one character, got ''" in error


def test_a_run_that_had_to_be_new_writes_and_goes_on_before_its_first_evaluation(
    arena, call
):
    run_dir = arena.home / "with a space"
    arguments = arena.options(run_dir, resume="never")
    stopped = arena.start(arguments, Blow(moments.UPDATE, 2, signal.SIGTERM))
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    code, out, error = call(sample.main, run_dir, "--prompt", "the cat", "--length", 5)
    assert (code, error) == (0, "") and out.startswith("the cat")
    again = arena.shell(command_after("go on with:", stopped.stdout))
    assert again.returncode == 0, again.stderr
    assert result(run_dir)["step"] == STEPS

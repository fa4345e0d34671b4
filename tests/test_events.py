"""What TensorBoard shows of a run: each step once, whatever happened to the run."""

import json
import struct
from dataclasses import replace

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from test_loop import OPTIONS, Following, make_trainer, remains, run_to_the_end

import jaxrnn.extras
from jaxrnn.training.run.events import EventLog
from jaxrnn.training.run.metrics import MetricsLog, read_metrics
from jaxrnn.training.run.run import Run
from jaxrnn.training.run.stop import StopRequest

LOGGED = replace(OPTIONS, log_to="tensorboard", log_every=2)


@pytest.fixture(autouse=True)
def optax_may_promote():
    with jax.numpy_dtype_promotion("standard"):
        yield


def events(path):
    """Of one file: frames of a length, its checksum, an event and its checksum."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4


def shown(run_dir):
    """What TensorBoard shows: {tag: [(step, value), ...]}."""
    series = {}
    for path in sorted((run_dir / "tensorboard").iterdir()):
        for event in events(path):
            if event.session_log.status == SessionLog.START:
                series = {
                    tag: [pair for pair in pairs if pair[0] < event.step]
                    for tag, pairs in series.items()
                }
            for value in event.summary.value:
                pair = event.step, value.simple_value
                series.setdefault(value.tag, []).append(pair)
    return series


def logged(run_dir):
    """The same of what metrics.jsonl holds."""
    series = {}
    for row in read_metrics(run_dir / "metrics.jsonl"):
        step = row.pop("step")
        for name, number in row.items():
            kind = "valid" if name.startswith("valid_") else "train"
            tag = f"{kind}/{name.removeprefix('valid_')}"
            series.setdefault(tag, []).append((step, np.float32(number)))
    return series


def without_speed(series):
    assert all(speed > 0 for _, speed in series.pop("train/tokens_per_second"))
    return series


def halted_at(batch):
    """A trainer whose run is asked to stop at a batch of its first evaluation."""
    stop = StopRequest()

    def at_batch(split, n):
        if n == batch:
            stop.signal = 2

    return make_trainer(at_batch), stop


def test_all_that_is_logged_is_shown_and_changes_no_bit(tmp_path):
    plain = replace(OPTIONS, run_dir=tmp_path / "plain")
    options = replace(LOGGED, run_dir=tmp_path / "logged")
    run_to_the_end(make_trainer(), plain)
    run_to_the_end(make_trainer(), options)
    assert remains(plain.run_dir) == remains(options.run_dir)
    assert not (plain.run_dir / "tensorboard").exists()
    found = shown(options.run_dir)
    assert [step for step, _ in found["train/tokens_per_second"]] == [2, 4, 5, 6, 8, 10, 12]
    found = without_speed(found)
    assert found == logged(options.run_dir)
    assert {"train/loss", "train/learning_rate", "train/gradient_norm"} <= found.keys()
    assert [step for step, _ in found["valid/other"]] == [4, 8, 12]


def killed(options, at):
    """Trains until an exception as sudden as a kill, after step `at`."""

    class Killed(Exception):
        pass

    class Deadly(Following):
        def batch(self, step, rows):
            if step == at:
                raise Killed
            return super().batch(step, rows)

    trainer = OPTIONS.make_trainer(Deadly())
    with pytest.raises(Killed), Run(trainer, options) as run:
        run.train(StopRequest())


@pytest.mark.parametrize("at", [3, 4, 7, 9])
def test_a_run_killed_and_gone_on_with_shows_each_step_once(tmp_path, at):
    options = replace(LOGGED, run_dir=tmp_path, log_every=1)
    killed(options, at)
    assert shown(tmp_path)["train/loss"][-1][0] == at
    run_to_the_end(make_trainer(), options)
    assert without_speed(shown(tmp_path)) == logged(tmp_path)


def test_an_evaluation_that_was_cut_short_is_shown_once(tmp_path):
    options = replace(LOGGED, run_dir=tmp_path)
    trainer, stop = halted_at(1)
    ended, _ = run_to_the_end(trainer, options, stop)
    assert not ended
    # Measured by another start, which was killed before it saved.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "valid_loss": 1.0, "valid_other": 1.0}) + "\n")
    log = EventLog(tmp_path / "tensorboard")
    log.begin([], first=5)
    log.write([{"step": 4, "valid_loss": 1.0}])
    log.close()
    run_to_the_end(make_trainer(), options)
    found = without_speed(shown(tmp_path))
    assert found == logged(tmp_path)
    assert [step for step, _ in found["valid/loss"]] == [4, 8, 12]


def test_logging_may_begin_in_the_middle_and_then_shows_all(tmp_path):
    options = replace(LOGGED, run_dir=tmp_path)
    killed(replace(options, log_to=None), 9)
    run_to_the_end(make_trainer(), options)
    assert without_speed(shown(tmp_path)) == logged(tmp_path)


def test_numbers_alone_are_shown_and_may_be_infinite(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", EventLog(tmp_path / "tensorboard"))
    log.cut_back(0)
    log.write([{"step": 1, "loss": float("inf"), "skipped": "not finite"}])
    log.write([{"step": 1, "valid_loss": 2.0, "sample": "It was"}])
    log.close()
    assert shown(tmp_path) == {"train/loss": [(1, np.inf)], "valid/loss": [(1, 2.0)]}


def test_a_missing_library_is_told_before_training(tmp_path, monkeypatch):
    find_spec = jaxrnn.extras.find_spec
    monkeypatch.setattr(
        jaxrnn.extras,
        "find_spec",
        lambda name: None if name == "tensorboardX" else find_spec(name),
    )
    with pytest.raises(ImportError, match=r"pip install 'jaxrnn\[tensorboard\]'"):
        Run(make_trainer(), replace(LOGGED, run_dir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()

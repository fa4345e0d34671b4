"""Networks of all kinds, trained for the same time."""

import json
import os

import pytest

from experiments.language_model import equal_time


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    text = tmp_path / "text"
    text.write_text("to be, or not to be: that is the question. " * 600)
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: None)
    monkeypatch.setattr(equal_time, "MEASURED", 0.0)
    return [
        *("--data", text, "--runs", tmp_path / "runs", "--seconds", "0.01", "--seeds", "2"),
        *("--picture", tmp_path / "picture.png", "--networks", "lstm", "transformer"),
    ]


@pytest.mark.slow
def test_every_network_learns_at_every_rate_and_then_with_every_seed(
    call, arguments, tmp_path
):
    code, out, error = call(equal_time.main, *arguments)
    assert code == 0, error
    runs = {path.parent.name for path in tmp_path.glob("runs/*/result.json")}
    for name in ("lstm", "transformer"):
        losses = {
            rate: json.loads((tmp_path / f"runs/{name}-{rate}-0/result.json").read_text())
            for rate in ("0.003", "0.01")
        }
        best = min(losses, key=lambda rate: losses[rate]["valid_loss"])
        assert {run for run in runs if run.startswith(name)} == {
            f"{name}-0.003-0",
            f"{name}-0.01-0",
            f"{name}-{best}-1",
        }
        (row,) = [line for line in out.splitlines() if line.startswith(f"| `{name}`")]
        assert f"| {best} | 1 |" in row
    assert (tmp_path / "picture.png").stat().st_size > 10_000

    code, again, _ = call(equal_time.main, *arguments)  # all is there
    assert code == 0 and again.splitlines()[0].startswith("| network")
    assert again.splitlines() == out.splitlines()[-len(again.splitlines()) :]

    code, _, error = call(equal_time.main, *arguments, "--seconds", "60")
    assert code == 2 and "was trained for 1 steps, and 60 seconds are" in error


def test_a_network_that_is_none_is_refused_before_any_is_trained(call, arguments, tmp_path):
    code, _, error = call(equal_time.main, *arguments, "lstn")
    assert code == 2 and "unknown network 'lstn'; known: elman, gru" in error
    assert not (tmp_path / "runs").exists()


def test_a_system_without_affinity_is_refused(call, arguments, monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity")
    code, _, error = call(equal_time.main, *arguments)
    assert code == 2 and "equal time needs Linux" in error


def test_the_process_keeps_to_the_last_of_its_cores(monkeypatch):
    chosen = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3})
    monkeypatch.setattr(os, "sched_setaffinity", lambda *call: chosen.append(call))
    equal_time.on_one_core()
    assert chosen == [(0, {3})]

"""The examples run as they stand, are as short as they say, and resume exactly."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrnn.training import digest_tree
from jaxrnn.training.store.saved_step import read_step

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(folder, name, *, changed=()):
    """Runs an example in `folder`, with a part of its text `changed` into another."""
    script = (EXAMPLES / name).read_text()
    if changed:
        assert changed[0] in script
        script = script.replace(*changed)
    # A report takes long.
    script = script.replace(" = Options(", " = functools.partial(Options, report=False)(")
    script = script.replace("\nimport ", "\nimport functools\nimport ", 1)
    (folder / name).write_text(script)
    done = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name, lines", [("own_loop.py", 25), ("own_problem.py", 40)])
def test_an_example_is_short(name, lines):
    written = (EXAMPLES / name).read_text().splitlines()
    assert sum(bool(line.strip()) for line in written) <= lines


def test_every_example_is_one_short_file_and_runs_here():
    tested = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 150
        assert f'"{path.name}"' in tested


@pytest.mark.parametrize("name", ["own_loop.py", "own_problem.py"])
def test_an_example_stands_in_the_documents_as_it_is(name):
    page = (EXAMPLES.parent / "docs/training.md").read_text()
    assert (EXAMPLES / name).read_text() in page


def test_a_loop_of_ones_own_resumes_with_the_same_bits(tmp_path):
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    for folder in (parts, whole):
        folder.mkdir()
    # Ten steps past the last save, as if killed.
    run(parts, "own_loop.py", changed=("range(done, 200)", "range(done, 30)"))
    run(parts, "own_loop.py")
    run(whole, "own_loop.py")
    assert digest(parts) == digest(whole)


def figures(told):
    """The numbers with a point in what an example printed."""
    return [float(number) for number in re.findall(r"\d+\.\d+", told)]


@pytest.mark.slow
def test_a_recurrent_policy_learns_what_only_memory_can_tell(tmp_path):
    assert figures(run(tmp_path, "recurrent_ppo.py"))[-1] > 0.95


@pytest.mark.slow
def test_a_series_with_gaps_is_forecast_better_than_by_its_last_value(tmp_path):
    *_, network, last_value = figures(run(tmp_path, "forecasting.py"))
    assert network < 0.6 < last_value


@pytest.mark.slow
def test_tags_need_to_know_where_a_sentence_ends(tmp_path):
    assert figures(run(tmp_path, "tagging.py"))[-1] > 0.99


@pytest.mark.slow
def test_models_together_are_right_more_often_than_alone(tmp_path):
    alone, together = figures(run(tmp_path, "ensemble.py"))
    assert 0.6 < alone < together - 0.02


@pytest.mark.slow
def test_a_model_fine_tuned_is_better_than_one_from_the_start(tmp_path):
    tuned, alone = figures(run(tmp_path, "fine_tuning.py").splitlines()[-1])
    assert tuned < 0.9 * alone


def test_the_texts_of_a_csv_file_are_told_apart(tmp_path):
    told = run(tmp_path, "csv_classifier.py", changed=("steps=500", "steps=100"))
    error = figures(next(line for line in told.splitlines() if line.startswith("test")))[-1]
    assert error < 0.5  # the largest class has 37 %


def test_a_module_of_pytorch_is_served_to_many_clients(tmp_path):
    pytest.importorskip("torch")
    told = run(tmp_path, "serve_torch.py")
    assert float(re.findall(r"differs by (\S+),", told)[0]) < 1e-6


def digest(folder):
    """Of the last state."""
    saved = read_step(folder / "runs/own_loop/checkpoints/200")
    return digest_tree({path: leaf.data for path, leaf in saved.leaves.items()})


def test_a_problem_of_ones_own_has_all_that_a_run_has(tmp_path):
    told = run(tmp_path, "own_problem.py")
    assert "step 300/300" in told and "best so far" in told
    folder = tmp_path / "runs/waves"
    result = json.loads((folder / "result.json").read_text())
    assert result["step"] == 300 and result["test_loss"] < 0.03
    assert (folder / "loss.png").stat().st_size > 1000
    again = run(tmp_path, "own_problem.py")
    assert "going on from step 300" in again
    state = json.loads((folder / "result.json").read_text())["state_sha256"]
    assert state == result["state_sha256"]

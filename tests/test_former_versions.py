"""Runs that former versions left go on: `fixtures` has them as they were written."""

import json
import shutil
from pathlib import Path

import arena as moments
import pytest
from arena import STEPS, Arena, result

from experiments.language_model.run import load
from experiments.long_lag import train as train_trials
from experiments.long_lag.run import load as load_trials
from jaxrnn.training.run.metrics import read_metrics

FIXTURES = Path(__file__).parent / "fixtures"


def copy_of(name, to):
    shutil.copytree(FIXTURES / name, to)
    return to


@pytest.mark.parametrize(
    "name, stopped, options",
    [
        # Before TrainState counted skipped steps, as test_runs.py did at 9ae7f18.
        ("run_before_0_1", 12, {"hidden_size": 4}),
        # Before the evaluations had a place of their own in it, at d7d9841.
        (
            "run_0_1",
            13,
            {
                "hidden_size": 4,
                "schedule": "plateau",
                "average": 0.9,
                "learning_rate": 0.01,
            },
        ),
    ],
)
def test_a_run_of_an_older_version_goes_on(tmp_path, name, stopped, options):
    arena = Arena.create(tmp_path)
    run_dir = copy_of(name, tmp_path / "run")
    before = moments.rows(run_dir)
    model, tokenizer, _ = load(run_dir)
    assert model.embedding.num_embeddings == tokenizer.size
    done = arena.start(arena.options(run_dir, **options))
    assert done.returncode == 0, done.stderr
    assert f"going on from step {stopped} of " in done.stdout
    assert result(run_dir)["step"] == STEPS
    assert moments.rows(run_dir).startswith(before)


def test_trials_of_an_older_version_go_on(tmp_path, call):
    run_dir = copy_of("long_lag_0_1", tmp_path / "run")
    before = load_trials(run_dir)
    assert before.needed.tolist() == [-1, -1, -1]
    arguments = "tiny", "--run-dir", run_dir, "--allow-change", "steps"
    code, _, error = call(train_trials.main, *arguments)
    assert code == 0, error
    rows = read_metrics(run_dir / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 7))
    assert json.loads((run_dir / "result.json").read_text())["step"] == 6

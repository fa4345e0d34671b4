"""The table of runs beside the published figures, and the rows that a GPU trains."""

import json
import math
import re
import sys
import time
from pathlib import Path

import pytest
import tyro

from experiments import results
from experiments.language_model.config import PRESETS
from experiments.language_model.recipes import RECIPES
from experiments.speed import gpu_rows


@pytest.fixture
def runs(tmp_path):
    def run(name, unit, loss, **more):
        folder = tmp_path / name
        folder.mkdir()
        figures = {"valid_loss": loss + 0.1, "test_loss": loss}
        result = {"step": 20, "unit": unit, "parameters": 1234, "seconds": 90.0}
        write(folder / "result.json", [result | figures | more])
        versions = {"jax": "0.10.2"}
        write(folder / "history.jsonl", [{"devices": "1 cpu", "versions": versions}])
        lines = [{"step": 10, "valid_loss": 2 * loss}, {"step": 15, "loss": 1.0}]
        write(folder / "metrics.jsonl", [*lines, {"step": 20, "valid_loss": loss}])
        return folder

    def write(path, rows):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return run


def test_runs_stand_beside_what_is_published(runs, call, tmp_path):
    found = [
        runs("ptb-medium-seed-1", "nats/word", math.log(80.7)),
        runs("ptb-char", "nats/character", 1.4 * math.log(2)),
        runs("own", "nats/frame", 8.5),
        runs("right", "nats/sentence", 0.5, test_accuracy=0.86, valid_accuracy=0.9),
    ]
    (tmp_path / "unfinished").mkdir()
    picture = tmp_path / "learning.png"
    code, out, error = call(
        results.main, *found, tmp_path / "unfinished", "--picture", picture
    )
    assert (code, error) == (0, "")
    medium, characters, own, right = out.splitlines()[2:]
    assert "| 82.7 (Zaremba et al. 2014) | 80.7 | -2 |" in medium
    assert "| 1.4 | +0.088 |" in characters and "| bits | 1.5 | 1 cpu" in characters
    assert "|  | 8.5 |  | 8.6 | nats/frame |" in own
    assert "| 86 |  | 90 | percent |" in right
    assert picture.stat().st_size > 10_000


def test_no_finished_run_is_told(call, tmp_path):
    code, out, error = call(results.main, tmp_path / "none")
    assert (code, out) == (2, "") and "no folder of a finished run" in error


@pytest.mark.parametrize("row", gpu_rows.ROWS, ids=lambda row: row.preset)
def test_a_row_is_a_preset_with_options_that_it_has_and_a_published_figure(row):
    _, *options = gpu_rows.training(row)[3:]
    config = PRESETS[row.preset][1]
    assert tyro.cli(type(config), args=options, default=config).data == Path(row.data)
    assert row.preset in results.PUBLISHED


@pytest.mark.parametrize("preset", RECIPES)
def test_a_recipe_and_the_table_name_the_same_figure(preset):
    told = re.findall(r"\d+\.\d+", RECIPES[preset][0])
    assert not told or [float(figure) for figure in told] == [
        results.PUBLISHED[preset].test
    ]


def test_a_row_ends_with_its_time_or_below_its_mark(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = gpu_rows.ROWS[0]._replace(mark=100)
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]

    def run(command, seconds):
        return gpu_rows.run(command, tmp_path / "log", time.monotonic() + seconds, row)

    assert run([sys.executable, "-c", "print(1)"], 30) == "done"
    assert run([sys.executable, "-c", "raise SystemExit(3)"], 30) == "failed, exit code 3"
    assert run(sleep, 0) == "stopped: the same command goes on"
    gpu_rows.folder(row).mkdir(parents=True)
    metrics = gpu_rows.folder(row) / "metrics.jsonl"
    metrics.write_text(json.dumps({"step": 1, "valid_loss": math.log(200)}) + "\n")
    assert run(sleep, 30) == "given up: 200, the mark is 100"


def test_the_tables_that_the_experiments_tell_are_those_of_the_figures_kept(call):
    code, out, _ = call(results.main)
    told = (Path(results.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert code == 0 and told.endswith(f"\n\n{out}")


def test_what_a_run_came_to_is_kept_in_its_place(runs, call, tmp_path, monkeypatch):
    kept = tmp_path / "figures.jsonl"
    kept.write_text(
        "".join(
            json.dumps({"task": task, "run": name, "measure": "bits", "here": 9.0}) + "\n"
            for task, name in [("a", "ptb-char"), ("b", "other")]
        )
    )
    monkeypatch.setattr(results, "FILE", kept)
    found = [runs(name, "nats/character", math.log(2)) for name in ("ptb-char", "own")]
    found.append(runs("right", "nats/sentence", 0.5, test_accuracy=0.86))
    of_run = "--hardware", "a clock", "--commit", "abc"
    code, _, error = call(results.main, *found, "--keep", "a", *of_run)
    assert (code, error) == (0, "")
    first, second, third, last = map(json.loads, kept.read_text().splitlines())
    assert first == {
        "task": "a",
        "run": "ptb-char",
        "measure": "bits",
        "here": 1.0,
        "published": 1.312,
        "source": "Ha et al. 2016",
        "parameters": 1234,
        "minutes": 1.5,
        "hardware": "a clock",
        "commit": "abc",
    }
    assert (second["run"], third["run"], third["here"]) == ("own", "right", 86.0)
    assert last == {"task": "b", "run": "other", "measure": "bits", "here": 9.0}

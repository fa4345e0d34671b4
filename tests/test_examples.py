"""The examples run as they stand, are as short as they say, and resume exactly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrnn.training import digest_tree
from jaxrnn.training.store.saved_step import read_step

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(folder, name, *, until=None):
    """Runs an example in `folder`, with its last step changed if `until` says so."""
    script = (EXAMPLES / name).read_text()
    if until is not None:
        changed = script.replace("range(done, 200)", f"range(done, {until})")
        assert changed != script
        script = changed
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


@pytest.mark.parametrize("name", ["own_loop.py", "own_problem.py"])
def test_an_example_stands_in_the_documents_as_it_is(name):
    page = (EXAMPLES.parent / "docs/training.md").read_text()
    assert (EXAMPLES / name).read_text() in page


def test_a_loop_of_ones_own_resumes_with_the_same_bits(tmp_path):
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    for folder in (parts, whole):
        folder.mkdir()
    run(parts, "own_loop.py", until=30)  # ten steps past the last save, as if killed
    run(parts, "own_loop.py")
    run(whole, "own_loop.py")
    assert digest(parts) == digest(whole)


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

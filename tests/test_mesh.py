"""Inside `shard_map`, under explicit and automatic axes, with the state in parts: the same
numbers."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import arena as moments
import fsdp
import numpy as np
import sharded
from arena import Arena, Blow

from jaxrnn.training.run.metrics import read_metrics


def on_devices(count, script, *arguments):
    flags = (
        f"--xla_force_host_platform_device_count={count} --xla_backend_optimization_level=0"
    )
    done = subprocess.run(
        [sys.executable, script, *arguments],
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_batch_cut_over_devices_gives_the_same_numbers_and_no_collective_in_a_loop():
    shown = on_devices(4, sharded.__file__)
    assert len(shown.splitlines()) == len(sharded.CASES)


def test_a_state_in_parts_learns_the_same_with_a_part_of_the_memory(tmp_path):
    (tmp_path / "text").write_text("to be, or not to be: that is the question. " * 60)
    on_devices(8, fsdp.__file__, str(tmp_path / "text"))


def test_a_run_in_parts_goes_on_whole_and_in_several_processes(tmp_path):
    arena = Arena.create(tmp_path)
    stop = Blow(moments.UPDATE, 8, signal.SIGTERM)

    def options(name, *more):
        return [*arena.options(tmp_path / name), *more]

    def four_devices():
        flags = "--xla_force_host_platform_device_count=4"
        return arena.start(options("parts", "--fsdp"), stop, XLA_FLAGS=flags)

    assert arena.start(options("whole")).returncode == 0
    assert four_devices().returncode == 128 + signal.SIGTERM
    both = arena.start_several(2, options("parts", "--fsdp"), stop)
    assert [process.returncode for process in both] == [128 + signal.SIGTERM] * 2
    ended = arena.start(options("parts"))
    assert ended.returncode == 0, ended.stderr
    logs = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    losses = ([row["loss"] for row in log if "loss" in row] for log in logs)
    np.testing.assert_allclose(*losses, atol=1e-4)

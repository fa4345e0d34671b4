"""Inside `shard_map`, under explicit and under automatic axes: the same numbers."""

import os
import subprocess
import sys
from pathlib import Path

import sharded


def test_a_batch_cut_over_devices_gives_the_same_numbers_and_no_collective_in_a_loop():
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, sharded.__file__],
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(sharded.CASES)

"""Inside `shard_map`, under explicit and automatic axes, with the state in parts: the same
numbers."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import arena as moments
import fsdp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharded
from arena import Arena, Blow
from jax.sharding import AbstractMesh, AxisType

from jaxrnn import LSTM, LayerNormLSTM, unroll
from jaxrnn.strategies import over_devices
from jaxrnn.training import Options, Problem
from jaxrnn.training.mesh import read_mesh
from jaxrnn.training.run.metrics import read_metrics

AUTO = (AxisType.Auto,)


@pytest.mark.parametrize(
    "text", ["data=4", "data=2,model=2", "model=0", "data=1,data=1", "rows=1", "data", ""]
)
def test_a_mesh_of_other_devices_or_in_other_words_is_refused(text):
    with pytest.raises(ValueError, match=f"a mesh .*{re.escape(text)}"):
        read_mesh(text)


def test_a_mesh_is_told_by_its_axes():
    assert dict(read_mesh("model=1, data=1").shape) == {"data": 1, "model": 1}
    assert dict(read_mesh("model=1").shape) == {"data": 1, "model": 1}


def test_a_function_traced_before_is_traced_anew_inside_over_devices():
    cell = LSTM(2, 3)
    params, xs = cell.init(jax.random.key(0)), jnp.ones((4, 2, 2))
    run = jax.jit(partial(unroll, cell))
    alone = str(run.trace(params, xs).jaxpr)
    with over_devices(AbstractMesh((2,), ("data",), axis_types=AUTO)):
        shared = str(run.trace(params, xs).jaxpr)
    assert "shard_map" in shared
    assert "shard_map" not in alone
    assert str(run.trace(params, xs).jaxpr) == alone


@pytest.mark.parametrize(
    ("cell", "why"), [(LayerNormLSTM(2, 4), "LayerNormLSTM"), (LSTM(2, 3), "3 units")]
)
def test_units_that_cannot_be_shared_are_refused_by_name(cell, why):
    params = cell.init(jax.random.key(0))
    mesh = AbstractMesh((1, 2), ("data", "model"), axis_types=AUTO * 2)
    with over_devices(mesh), pytest.raises(ValueError, match=f"2 devices .*{why}"):
        jax.eval_shape(partial(unroll, cell), params, jnp.ones((4, 2, 2)))


def test_a_mesh_of_explicit_axes_is_refused():
    with (
        pytest.raises(ValueError, match="a mesh of automatic axes"),
        over_devices(jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))),
    ):
        pass


def test_a_trainer_takes_the_mesh_that_jax_makes_unless_told():
    mesh = jax.make_mesh((1,), ("data",))
    assert mesh.axis_types == (AxisType.Explicit,)
    options = Options(steps=1)
    trainer = replace(options.make_trainer(Nothing()), mesh=mesh)
    state, metrics = trainer.step(trainer.init(0), trainer.batch(0))
    assert float(metrics["loss"]) == 4.0 and int(state.step) == 1


class Nothing(Problem):
    rows = 2

    def init(self, key):
        return jnp.zeros(3), ()

    def loss(self, params, carry, batch, key):
        return jnp.mean((batch - jnp.sum(params)) ** 2), carry, {}

    def batch(self, step, rows):
        return np.full(len(rows), 2, np.float32)


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


@pytest.mark.slow
def test_a_state_in_parts_learns_the_same_with_a_part_of_the_memory(tmp_path):
    (tmp_path / "text").write_text("to be, or not to be: that is the question. " * 60)
    on_devices(8, fsdp.__file__, str(tmp_path / "text"))


@pytest.mark.slow
def test_a_run_in_parts_goes_on_whole_and_in_several_processes(tmp_path):
    arena = Arena.create(tmp_path)
    stop = Blow(moments.UPDATE, 8, signal.SIGTERM)

    def options(name, *more):
        return [*arena.options(tmp_path / name), *more]

    def four_devices():
        flags = "--xla_force_host_platform_device_count=4"
        mesh = ["--fsdp", "--mesh", "data=2,model=2"]
        return arena.start(options("parts", *mesh), stop, XLA_FLAGS=flags)

    assert arena.start(options("whole")).returncode == 0
    assert four_devices().returncode == 128 + signal.SIGTERM
    both = arena.start_several(2, options("parts", "--fsdp"), stop)
    assert [process.returncode for process in both] == [128 + signal.SIGTERM] * 2
    ended = arena.start(options("parts"))
    assert ended.returncode == 0, ended.stderr
    logs = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    losses = ([row["loss"] for row in log if "loss" in row] for log in logs)
    np.testing.assert_allclose(*losses, atol=1e-4)

"""The GPU's kernels without a GPU: `simulate` against `scan`, and gpu_check's report."""

import json
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from experiments.speed import gpu_check
from experiments.speed.gpu import persistent
from experiments.speed.gpu.layers import inputs
from experiments.speed.gpu.lowering import gradient
from experiments.speed.gpu.measure import distance
from experiments.speed.gpu.persistent_check import flags
from jaxrnn.cells.lstm import LSTMCarry

SIZE, BATCH, LENGTH, BLOCKS = 32, 5, 7, 2


def arrays():
    cell, *drawn = inputs("lstm", SIZE, BATCH, LENGTH)
    params, xs, ys_bar = jax.tree.map(jnp.asarray, drawn)
    random = np.random.default_rng(3)
    h, c = jnp.asarray(random.normal(size=(2, BATCH, SIZE)), jnp.float32)
    return cell, params, xs, ys_bar, LSTMCarry(h, c)


def simulated(*args, **kwargs):
    return persistent.unroll(*args, blocks=BLOCKS, passes=persistent.SIMULATED, **kwargs)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masks and resets"])
def test_value_and_gradients_of_the_tiling_are_those_of_scan(masked):
    cell, *given = arrays()
    some = {"mask": flags(LENGTH, BATCH)["mask"].at[2:4, 1].set(False)} if masked else {}
    if masked:
        some["reset"] = jnp.zeros((LENGTH, BATCH), bool).at[3, :3].set(True)

    def scan(*args, **kwargs):
        return jaxrnn.unroll(cell, *args, strategy="scan", **kwargs)

    def both(run):
        return jax.jit(partial(gradient, run, flags=some))(*given)

    got, want = both(simulated), both(scan)
    assert distance(got, want) < 1e-5


def test_a_nan_does_not_pass_a_reset():
    _, params, xs, _, carry = arrays()
    reset = jnp.zeros((LENGTH, BATCH), bool).at[3].set(True)
    last, ys = simulated(params, xs.at[1].set(jnp.nan), carry, reset=reset)
    assert np.isnan(ys[1:3]).all()
    assert np.isfinite(ys[3:]).all()
    assert all(np.isfinite(leaf).all() for leaf in last)


@pytest.mark.slow
def test_without_a_gpu_the_kernels_are_lowered_and_the_report_says_nothing_ran(
    tmp_path, monkeypatch
):
    command = ["gpu_check", "--small", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(gpu_check, "has_gpu", lambda: False)
    gpu_check.main()
    report = json.loads((tmp_path / "gpu.json").read_text())
    rows = report["results"][0]["rows"]
    assert all(row["ok"] for row in rows)
    assert any("persistent 64 in 2 blocks" in row["what"] for row in rows)
    assert "NOTHING BELOW RAN ON HARDWARE" in (tmp_path / "gpu.md").read_text()

"""Keeping a state over lengths that were not trained on."""

import json
from dataclasses import replace
from itertools import pairwise, permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.state_tracking import grid, report, train
from experiments.state_tracking.config import PRESETS, Config
from experiments.state_tracking.problem import make_problem
from experiments.state_tracking.tasks import NO_LABEL, TASKS, is_even
from jaxrnn.models import CausalTransformer

TINY = PRESETS["tiny"][1]

# What is right after the symbols so far, told in another way than the tasks compute it.


def parity(symbols):
    return symbols.count(1) % 2


def even_pairs(symbols):
    return int(sum(a != b for a, b in pairwise(symbols)) % 2 == 0)


def cycle_navigation(symbols):
    return (symbols.count(1) - symbols.count(2)) % 5


def modular_arithmetic(symbols):
    if len(symbols) % 2 == 0:
        return NO_LABEL
    return eval("".join("01234+-*"[s] for s in symbols)) % 5


def word(even):
    group = [p for p in permutations(range(5)) if not even or is_even(p)]

    def product(symbols):
        # What each of five things becomes when the permutations are done in turn.
        things = list(range(5))
        for symbol in symbols:
            things = [group[symbol][thing] for thing in things]
        return group.index(tuple(things))

    return product


def dyck(symbols):
    open_kinds = []
    for symbol in symbols:
        if symbol < 2:
            open_kinds.append(symbol + 1)
        else:
            assert open_kinds.pop() == symbol - 1
        assert len(open_kinds) <= 3
    return open_kinds[-1] if open_kinds else 0


RIGHT = {
    "parity": parity,
    "even-pairs": even_pairs,
    "cycle-navigation": cycle_navigation,
    "modular-arithmetic": modular_arithmetic,
    "a5": word(even=True),
    "s5": word(even=False),
    "dyck": dyck,
}


@pytest.mark.parametrize("name", RIGHT)
def test_every_prefix_of_a_sequence_has_its_own_answer(name):
    task = TASKS[name]
    symbols, labels = task.draw(np.random.default_rng(0), 41, 5)
    assert symbols.shape == labels.shape == (41, 5)
    assert symbols.dtype == labels.dtype == np.int32
    for row, answers in zip(symbols.T.tolist(), labels.T.tolist(), strict=True):
        assert answers == [RIGHT[name](row[: t + 1]) for t in range(41)]
    many, answers = task.draw(np.random.default_rng(1), 40, 500)
    assert set(np.unique(many)) == set(range(task.symbols))
    assert set(np.unique(answers)) - {NO_LABEL} == set(range(task.classes))


def test_a_group_has_as_many_symbols_as_it_has_permutations():
    for name in ("a5", "s5"):
        assert len(TASKS[name].table) == TASKS[name].symbols == TASKS[name].classes


def test_scattered_symbols_are_told_in_order():
    symbols, labels = TASKS["selective-copying"].draw(np.random.default_rng(0), 50, 7)
    for row, answers in zip(symbols.T, labels.T, strict=True):
        told = [s for s in row[:-16] if s < 16]
        assert answers.tolist() == [NO_LABEL] * 34 + told
        assert set(row[-16:]) == {17} and set(row[:-16]) <= set(range(17))
    with pytest.raises(ValueError, match="a length of 32 or more, got 31"):
        TASKS["selective-copying"].draw(np.random.default_rng(0), 31, 1)


def test_a_batch_is_a_function_of_the_step_and_its_rows_are_parts_of_it():
    problem = make_problem(TINY)
    whole = problem.batch(3, np.arange(8))
    again = make_problem(TINY).batch(3, np.arange(8))
    np.testing.assert_array_equal(whole.symbols, again.symbols)
    part = problem.batch(3, np.array([1, 6]))
    np.testing.assert_array_equal(part.labels, whole.labels[:, [1, 6]])
    assert (problem.batch(4, np.arange(8)).symbols != whole.symbols).any()


def test_all_seeds_answer_the_same_test_set():
    one, two = (
        make_problem(replace(TINY, seed=seed)).evaluation("test") for seed in (0, 1)
    )
    np.testing.assert_array_equal(one[0].symbols, two[0].symbols)
    assert (one[0].symbols != one[1].symbols).any()


def test_lengths_that_were_trained_on_do_not_count_among_those_beyond():
    problem = make_problem(replace(TINY, task="modular-arithmetic", length=4, asked=9))
    params = problem.model.init(jax.random.key(0))
    (batch, *_) = problem.evaluation("valid")
    sums, _ = problem.measure(params, (), batch)
    # Asked at 1, 3, 5, 7 and 9.
    assert sums["loss"][1] == 5 * 64
    assert sums["accuracy"][1] == sums["error"][1] == 3 * 64
    assert sums["accuracy_as_trained"][1] == 2 * 64
    assert sums["accuracy"][0] + sums["error"][0] == 3 * 64


def test_a_causal_transformer_sees_no_step_to_come():
    model = CausalTransformer(
        3, 2, 8, layers=2, heads=2, feed_forward=16, dropout=0.5, rngs=nnx.Rngs(params=0)
    )
    xs = jax.random.normal(jax.random.key(0), (9, 4, 3))
    carry, outputs = model(xs)
    assert carry == () and outputs.shape == (9, 4, 2)
    _, changed = model(xs.at[5:].set(7.0))
    np.testing.assert_allclose(changed[:5], outputs[:5], atol=1e-6)
    assert np.abs(changed[5:] - outputs[5:]).min() > 0
    _, noisy = model(xs, key=jax.random.key(1))
    assert jnp.any(noisy != outputs)


def test_householders_are_refused_where_they_would_have_no_effect():
    with pytest.raises(ValueError, match="are deltanet's, got .* for lstm"):
        Config(householders=2)
    with pytest.raises(ValueError, match="asked no less, got 40 and 30"):
        Config(length=40, asked=30)


@pytest.mark.slow
def test_a_run_a_grid_that_goes_on_and_the_report(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ("--runs", "runs", "--seeds", "1", "--steps", "3", "--hidden-size", "8")
    small = (*arguments, "--batch-size", "4", "--tasks", "parity", "--networks")
    code, out, _ = call(grid.main, *small, "lstm", "--minutes", "0")
    assert code == 0 and "1 runs are left" in out and not (tmp_path / "runs").exists()
    for networks in (["lstm"], ["lstm", "transformer"]):
        code, out, err = call(grid.main, *small, *networks)
        assert code == 0, err
        assert ("parity-lstm-0" in out) == (len(networks) == 1)
    code, out, err = call(grid.main, *small, "lstn")
    assert code == 2 and "unknown network 'lstn'" in err

    runs = sorted((tmp_path / "runs").iterdir())
    assert [run.name for run in runs] == ["parity-lstm-0", "parity-transformer-0"]
    code, out, err = call(report.main, *runs)
    assert code == 0, err
    assert out.startswith("| network | parity |\n| --- | --- |\n| lstm | ")
    assert (tmp_path / "state_tracking.png").stat().st_size > 10_000
    shares = {
        json.loads((run / "result.json").read_text())["test_accuracy"] for run in runs
    }
    assert all(f"{100 * share:.1f}" in out for share in shares)
    code, _, err = call(report.main, tmp_path / "nothing")
    assert code == 2 and "nothing" in err


def test_the_command_trains(call, tmp_path):
    code, out, err = call(train.main, "tiny", "--run-dir", tmp_path, "--task", "dyck")
    assert code == 0, err
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["unit"] == "nats/answer"
    assert result["test_accuracy"] == pytest.approx(1 - result["test_error"])

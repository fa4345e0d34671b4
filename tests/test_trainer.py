"""What a trainer makes of a problem: its state, its batches in parts, what it measures."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jaxrnn import GRU, unroll
from jaxrnn.training.problem import Problem
from jaxrnn.training.trainer import Trainer

CELL, LENGTH, ROWS = GRU(2, 3), 5, 8


class Signs(Problem):
    """The mean square between what a cell gives and targets, each row with its sign; no
    noise, and a carry that goes on."""

    rows = ROWS

    def init(self, key):
        params = CELL.init(key)
        return params, CELL.initial_carry(params, (self.rows,))

    def loss(self, params, carry, batch, key):
        xs, targets, signs = batch
        carry, ys = unroll(CELL, params, xs, carry)
        off = (ys * signs[:, None] - targets) ** 2
        return jnp.mean(off), carry, {"right": jnp.mean(off < 1, dtype=jnp.float32)}

    def batch(self, step, rows):
        draw = np.random.default_rng(step)
        xs, targets = draw.normal(size=(2, LENGTH, self.rows, 3)).astype(np.float32)
        signs = np.where(np.arange(self.rows) % 3, 1, -1).astype(np.float32)
        return xs[:, rows, :2], targets[:, rows], signs[rows]


class Weighed(Signs):
    """Beside its rows a batch has weights of the features, which all rows share."""

    def loss(self, params, carry, batch, key):
        weights, batch = batch
        loss, carry, metrics = super().loss(params, carry, batch, key)
        return loss + jnp.sum(weights * params.b_n), carry, metrics

    def batch(self, step, rows):
        return np.full(3, step, np.float32), super().batch(step, rows)

    def batch_spec(self, array):
        return PartitionSpec() if array.shape == (3,) else super().batch_spec(array)


class Measured(Signs):
    def evaluation(self, split):
        if split == "valid":
            return [self.batch(number, np.arange(self.rows)) for number in (10, 11, 12)]
        return None

    def evaluation_carry(self, params):
        return CELL.initial_carry(params, (self.rows,))


def learn(trainer, steps=2):
    state, metrics = trainer.init(0), []
    for step in range(steps):
        state, told = trainer.step(state, trainer.batch(step))
        metrics.append({name: float(value) for name, value in told.items()})
    return state, metrics


# The state before the first step.


def test_a_state_is_a_pure_function_of_the_seed_and_like_what_is_foretold():
    trainer = Trainer(Signs(), optax.adam(0.1), average=0.9)
    first, again, other = (trainer.init(seed) for seed in (0, 0, 1))
    chex.assert_trees_all_equal(jax.tree.map(data, first), jax.tree.map(data, again))
    assert not np.array_equal(first.params.w_x, other.params.w_x)
    assert jax.tree.structure(first) == jax.tree.structure(trainer.like)
    for leaf, like in zip(
        jax.tree.leaves(first), jax.tree.leaves(trainer.like), strict=True
    ):
        assert (leaf.shape, leaf.dtype) == (like.shape, like.dtype)
        assert leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)


def data(leaf):
    key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if key else leaf


# How exactly it multiplies.


@pytest.mark.parametrize("precision", ["default", "high", "highest"])
def test_all_products_are_of_the_precision_asked_for(precision):
    trainer = Trainer(Measured(), optax.adam(0.1), matmul_precision=precision)
    state, batch = trainer.like, trainer.batch(0)
    carry = trainer.problem.evaluation_carry(trainer.init(0).params)
    for lowered in (
        trainer._step.lower(state, batch),
        trainer._measure.lower(state.params, carry, batch),
    ):
        products = [
            line for line in lowered.as_text().splitlines() if "dot_general" in line
        ]
        asked = [f"precision = [{precision.upper()}, " in line for line in products]
        assert products and all(asked)


# Batches learned from in parts.


@pytest.fixture(scope="module")
def at_once():
    return learn(Trainer(Signs(), optax.adam(0.1)))


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_teaches_what_it_teaches_at_once(at_once, parts):
    """What belongs to a row is its own whichever part the row is in: signs and carries."""
    state, metrics = learn(Trainer(Signs(), optax.adam(0.1), accumulate=parts))
    want, told = at_once
    assert 0 < told[0]["right"] < 1 and np.abs(want.carry.h).max() > 0.1
    chex.assert_trees_all_close(state.params, want.params, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(state.opt_state, want.opt_state, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(state.carry, want.carry, rtol=1e-5, atol=1e-6)
    for got, one in zip(metrics, told, strict=True):
        assert got == pytest.approx(one, rel=1e-5)


class Padded(Signs):
    """The mean over those rows that are there: none of them in one of four parts."""

    def loss(self, params, carry, batch, key):
        (xs, targets, signs), there = batch
        carry, ys = unroll(CELL, params, xs, carry)
        off = jnp.sum((ys * signs[:, None] - targets) ** 2, axis=(0, 2))
        return jnp.sum(off * there) / jnp.sum(there), carry, {}

    def weight(self, batch):
        return jnp.sum(batch[1])

    def batch(self, step, rows):
        there = np.array([1, 0, 1, 1, 1, 0, 0, 0], np.float32)
        return super().batch(step, rows), there[rows]


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_count_by_what_they_are_the_means_of(parts):
    at_once, told = learn(Trainer(Padded(), optax.sgd(0.1)))
    state, metrics = learn(Trainer(Padded(), optax.sgd(0.1), accumulate=parts))
    chex.assert_trees_all_close(state.params, at_once.params, rtol=1e-5, atol=1e-6)
    for got, one in zip(metrics, told, strict=True):
        assert got == pytest.approx(one, rel=1e-5)


def test_each_part_has_noise_of_its_own():
    class Noisy(Signs):
        def init(self, key):
            return jnp.zeros(()), ()

        def loss(self, params, carry, batch, key):
            drawn = jax.random.normal(key)
            return params * drawn, carry, {"drawn": drawn, "square": drawn**2}

    _, (told,) = learn(Trainer(Noisy(), optax.sgd(0.1), accumulate=2), steps=1)
    # The mean of the squares is the square of the mean if both draws are the same.
    assert told["square"] > told["drawn"] ** 2 + 1e-3
    assert told["gradient_norm"] == pytest.approx(abs(told["drawn"]), rel=1e-5)


@pytest.mark.parametrize(
    "parts, message", [(3, "no 3 equal parts"), (0, "1 or more, got 0")]
)
def test_parts_that_cannot_be_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Trainer(Signs(), optax.sgd(0.1), accumulate=parts)


class Averaged(Problem):
    """The batches seen so far are averaged in a carry that all rows share."""

    rows = 4

    def init(self, key):
        return jnp.zeros(()), {"mean": jnp.zeros(2), "seen": jnp.int32(0)}

    def loss(self, params, carry, batch, key):
        seen = carry["seen"] + 1
        mean = carry["mean"] + (batch.mean((0, 1)) - carry["mean"]) / seen.astype("float32")
        return (params - mean.sum()) ** 2, {"mean": mean, "seen": seen}, {}

    def batch(self, step, rows):
        numbers = np.random.default_rng(step).normal(size=(3, self.rows, 2))
        return numbers[:, rows].astype(np.float32)

    def carry_spec(self, array):
        return PartitionSpec()


def test_what_all_rows_share_goes_from_batch_to_batch_but_not_through_parts():
    state, _ = learn(Trainer(Averaged(), optax.sgd(0.1)), steps=3)
    rows = np.arange(4)
    want = np.mean([Averaged().batch(step, rows) for step in range(3)], axis=(0, 1, 2))
    np.testing.assert_allclose(state.carry["mean"], want, rtol=1e-5, atol=1e-6)
    assert int(state.carry["seen"]) == 3
    parts = Trainer(Averaged(), optax.sgd(0.1), accumulate=2)
    with pytest.raises(ValueError, match=r"all rows share, .* in 2 parts: accumulate must"):
        learn(parts, steps=1)


# What is measured.


def test_what_is_learned_is_measured_over_all_batches_unless_a_problem_says_otherwise():
    problem = Measured()
    trainer = Trainer(problem, optax.sgd(0.1))
    params = trainer.init(0).params
    carry, want = problem.evaluation_carry(params), []
    for batch in problem.evaluation("valid"):
        loss, carry, metrics = problem.loss(params, carry, batch, None)
        want.append((loss, metrics["right"]))
    loss, right = np.mean(want, axis=0)
    got = trainer.measure(params, "valid")
    assert got == {"loss": pytest.approx(loss), "right": pytest.approx(right)}
    assert all(isinstance(figure, float) for figure in got.values())
    assert trainer.measures("valid") and not trainer.measures("test")
    assert trainer.measure(params, "test") == {}
    assert not Trainer(Signs(), optax.sgd(0.1)).measures("valid")

"""Evaluation that takes in the text as it reads it: a neural cache, dynamic evaluation."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from arena import Arena, result

from experiments.language_model import evaluate, sample, train
from jaxrnn import GRU, unroll
from jaxrnn.models import NeuralCache
from jaxrnn.training import Dynamic, DynamicRule, Problem, Trainer, gradient_rms

T, B, H, V = 7, 2, 3, 5


@pytest.fixture(scope="module")
def read():
    """The outputs of a model, its logits, and the words that came next."""
    draw = np.random.default_rng(0)
    outputs = draw.normal(size=(T, B, H)).astype(np.float32)
    logits = draw.normal(size=(T, B, V)).astype(np.float32)
    return outputs, logits, draw.integers(0, V, (T, B)).astype(np.int32)


def by_hand(cache, outputs, logits, targets, mask):
    """-log p of every target, one row and step after the other."""
    nats = np.zeros((T, B))
    for row in range(B):
        for t in range(T):
            p = np.exp(logits[t, row]) / np.exp(logits[t, row]).sum()
            past = [i for i in range(max(t - cache.window, 0), t) if mask[i, row]]
            if past:
                weights = np.exp(cache.theta * outputs[past, row] @ outputs[t, row])
                p_cache = np.zeros(V)
                np.add.at(p_cache, targets[past, row], weights / weights.sum())
                p = (1 - cache.share) * p + cache.share * p_cache
            nats[t, row] = -np.log(p[targets[t, row]])
    return nats


@pytest.mark.parametrize("window", [1, 3, 50])
@pytest.mark.parametrize("cut", [0, 2])
def test_a_cache_is_the_loop_by_hand_in_one_call_or_two(read, window, cut):
    cache, mask = NeuralCache(window, theta=0.7, share=0.3), np.ones((T, B), bool)
    mask[1, 0] = mask[5:, 1] = False
    nats = jax.jit(cache.nats)
    memory, parts = cache.start(jnp.zeros((B, H))), []
    for part in (slice(0, cut), slice(cut, T)) if cut else (slice(0, T),):
        memory, got = nats(memory, *(a[part] for a in (*read, mask)))
        parts.append(got)
    np.testing.assert_allclose(
        np.concatenate(parts), by_hand(cache, *read, mask), rtol=1e-5
    )
    assert memory.words.shape == (window, B) and memory.outputs.shape == (window, B, H)


def test_the_probabilities_with_a_cache_add_up_to_one(read):
    outputs, logits, targets = read
    cache = NeuralCache(4, theta=0.7, share=0.3)
    nats, start, total = jax.jit(cache.nats), cache.start(outputs[0]), 0
    for word in range(V):
        ending = np.concatenate([targets[:-1], np.full_like(targets[-1:], word)])
        total += np.exp(-np.asarray(nats(start, outputs, logits, ending)[1][-1]))
    np.testing.assert_allclose(total, 1, rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_cache_without_a_share_is_the_model_and_one_alone_knows_what_it_saw(read, share):
    outputs, logits, targets = read
    cache = NeuralCache(T, theta=0.7, share=share)
    _, nats = cache.nats(cache.start(outputs[0]), *read)
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    chex.assert_trees_all_close(nats[0], plain[0], rtol=1e-5)
    if share == 0:
        chex.assert_trees_all_close(nats, plain, rtol=1e-5)
    else:
        new = [
            [w not in targets[:t, b] for b, w in enumerate(targets[t])] for t in range(T)
        ]
        assert np.array_equal(np.isinf(nats[1:]), new[1:]) and np.any(new[1:])


@pytest.mark.parametrize(
    "values", [(0, 1.0, 0.1), (9, float("inf"), 0.1), (9, 1.0, 1.5), (9, 1.0, -0.1)]
)
def test_a_cache_that_cannot_be_is_refused(values):
    with pytest.raises(ValueError, match="window of 1 or more, a share in"):
        NeuralCache(*values)


# Dynamic evaluation.

CELL = GRU(2, 3)


class Waves(Problem):
    """The mean square between what a cell gives and targets, of the steps in a mask."""

    rows = B

    def init(self, key):
        return CELL.init(key), CELL.initial_carry(CELL.init(key), (B,))

    def loss(self, params, carry, batch, key):
        raise AssertionError("dynamic evaluation follows what is measured")

    def batch(self, step, rows):
        draw = np.random.default_rng(step)
        mask = np.arange(4)[:, None] < np.array([4, 4 - 2 * (step == 12)])
        xs, targets = draw.normal(size=(2, 4, B, 3)).astype(np.float32)
        return xs[..., :2], targets, mask

    def evaluation(self, split):
        return [self.batch(number, np.arange(B)) for number in (10, 11, 12)]

    def evaluation_carry(self, params):
        return CELL.initial_carry(params, (B,))

    def measure(self, params, carry, batch):
        xs, targets, mask = batch
        carry, ys = unroll(CELL, params, xs, carry, mask=mask)
        off = jnp.sum(jnp.where(mask[..., None], (ys - targets) ** 2, 0))
        return {"loss": (off, jnp.sum(mask))}, carry


def measure(problem, params):
    return Trainer(problem, optax.sgd(0.0)).measure(params, "valid")["loss"]


def segments(problem, params, follow):
    """The mean loss over all segments, each with the params that `follow` gave."""
    carry, total, count = problem.evaluation_carry(params), 0.0, 0

    def loss(params, carry, batch):
        sums, carry = problem.measure(params, carry, batch)
        off, steps = sums["loss"]
        return off / jnp.float32(steps), (sums["loss"], carry)

    for batch in problem.evaluation("valid"):
        g, ((off, steps), carry) = jax.grad(loss, has_aux=True)(params, carry, batch)
        total, count = total + float(off), count + int(steps)
        params = follow(params, g)
    return total / count


@pytest.fixture(scope="module")
def trained():
    return CELL.init(jax.random.key(0))


def test_dynamic_evaluation_at_rate_zero_is_the_plain_figure(trained):
    problem, rms = Waves(), jax.tree.map(jnp.ones_like, trained)
    plain = measure(problem, trained)
    for statistics in (None, rms):
        followed = Dynamic(problem, DynamicRule(0.0), statistics)
        assert measure(followed, trained) == pytest.approx(plain, rel=1e-6)


def test_dynamic_evaluation_by_sgd_is_the_loop_by_hand(trained):
    problem = Waves()

    def follow(params, gradients):
        return jax.tree.map(
            lambda p, g, p0: p - 0.2 * g + 0.1 * (p0 - p), params, gradients, trained
        )

    got = measure(Dynamic(problem, DynamicRule(0.2, 0.1)), trained)
    assert got == pytest.approx(segments(problem, trained, follow), rel=1e-5)
    assert abs(got - measure(problem, trained)) > 1e-3


def test_dynamic_evaluation_by_rms_is_the_loop_by_hand(trained):
    problem, rate, decay, epsilon = Waves(), 0.02, 0.6, 1e-3
    squares = []
    segments(problem, trained, lambda p, g: squares.append(g) or p)
    rms = jax.tree.map(lambda *gs: np.sqrt(np.mean(np.square(gs), axis=0)), *squares)
    found = gradient_rms(problem, trained, problem.evaluation("valid"))
    chex.assert_trees_all_close(found, rms, rtol=1e-4, atol=1e-7)

    mean = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(rms)]).mean()
    backs = jax.tree.map(lambda r: np.minimum(decay * r / mean, 1), rms)
    assert any((leaf == 1).any() for leaf in jax.tree.leaves(backs))

    def follow(params, gradients):
        return jax.tree.map(
            lambda p, g, p0, r, back: p - rate * g / (r + epsilon) + back * (p0 - p),
            params,
            gradients,
            trained,
            rms,
            backs,
        )

    got = measure(Dynamic(problem, DynamicRule(rate, decay, epsilon), found), trained)
    assert got == pytest.approx(segments(problem, trained, follow), rel=1e-4)


@pytest.mark.parametrize("rule", [(-1.0, 0.0), (0.1, 1.5), (float("nan"), 0.0)])
def test_a_rule_that_cannot_be_is_refused(rule):
    with pytest.raises(ValueError, match="a rate of 0 or more and a decay in"):
        DynamicRule(*rule)


def test_a_transformer_is_trained_and_measured_and_writes_nothing(call, tmp_path):
    arena = Arena.create(tmp_path)
    run_dir = tmp_path / "run"
    small = {"cell": "transformer", "heads": 2, "steps": 10, "sample_length": 0}
    refused = call(train.main, *arena.options(run_dir, **small | {"sample_length": 9}))
    assert refused[0] == 2 and "sample_length must be 0" in refused[2]
    code, _, error = call(train.main, *arena.options(run_dir, **small))
    assert code == 0, error
    losses = []
    for way in ([], ["--cache-window", 40], ["--dynamic", "sgd", "--dynamic-segment", 16]):
        code, out, error = call(evaluate.main, run_dir, *way, "--lanes", 8)
        assert (code, error) == (0, "")
        losses.append(json.loads(out.splitlines()[-1])["test_loss"])
    assert losses[0] == pytest.approx(result(run_dir)["test_loss"], abs=1e-6)
    assert len(set(losses)) == 3 and max(losses) - min(losses) < 0.5
    code, out, error = call(sample.main, run_dir)
    assert (code, out) == (2, "") and "holds a transformer, and this takes a rec" in error

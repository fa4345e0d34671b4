"""The pieces of AWD-LSTM (Merity et al. 2018), each by hand, and a run that was killed."""

from dataclasses import replace

import arena as moments
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from arena import Arena, result
from flax import nnx

from experiments.language_model import train
from experiments.language_model.config import PRESETS
from experiments.language_model.problem import make_problem
from jaxrnn import LSTM
from jaxrnn.data.varied_lanes import VariedLanes
from jaxrnn.models import LanguageModel
from jaxrnn.training import Problem, Trainer, read_metrics
from jaxrnn.training.averages import NEVER, Trigger

# Lengths.


def test_batches_of_varied_lengths_read_every_epoch_from_end_to_end():
    lanes = VariedLanes(np.arange(2500, dtype=np.int32), lanes=3, length=20, seed=4)
    seen, lengths, epoch = [], [], 0
    for step in range(150):
        batch = lanes.batch(step)
        assert batch.inputs.shape == (lanes.longest, 3) and lanes.longest == 40
        assert (batch.mask == batch.mask[:, :1]).all()
        if batch.fresh.all():
            if seen:  # the epoch before is whole, whatever its cuts
                want = np.arange(lanes.lane_length)[:, None]
                want = want + lanes.lane_length * np.arange(3)
                np.testing.assert_array_equal(np.concatenate(seen), want)
                epoch += 1
            seen = []
        length = int(batch.mask[:, 0].sum())
        np.testing.assert_array_equal(batch.targets[:length], batch.inputs[:length] + 1)
        seen.append(batch.inputs[:length])
        lengths.append(length)
    assert epoch >= 3
    again = VariedLanes(lanes.tokens, 3, 20, 4)  # a pure function of the step
    chex.assert_trees_all_equal(again.batch(140), lanes.batch(140))
    chex.assert_trees_all_equal(
        again.batch(9, np.array([2])).inputs, lanes.batch(9).inputs[:, [2]]
    )
    other = VariedLanes(lanes.tokens, 3, 20, 5)
    assert any(other.batch(n).mask.sum() != lanes.batch(n).mask.sum() for n in range(9))


def test_lengths_are_drawn_around_the_length_and_now_and_then_its_half():
    lanes = VariedLanes(np.zeros(1_400_001, np.int8), lanes=1, length=70)
    lengths = np.diff(lanes._ends(0), prepend=0)[:-1]
    short = lengths < 52
    assert 0.04 < short.mean() < 0.06
    assert (
        abs(lengths[~short].mean() - 69.5) < 0.3 and abs(lengths[short].mean() - 34.5) < 1
    )
    assert abs(lengths[~short].std() - 5) < 0.2
    assert lengths.min() >= 5 and lengths.max() <= 90


def problem_of(tmp_path, **options):
    text = tmp_path / "text.txt"
    text.write_text("all that is gold does not glitter, not all who wander are lost\n" * 90)
    return make_problem(
        replace(PRESETS["tiny"][1], data=text, hidden_size=6, dropout=0.0, **options)
    )


def test_a_batch_of_varied_length_is_learned_from_as_one_of_its_own_length(tmp_path):
    problem = problem_of(tmp_path, varied_lengths=True)
    plain = problem_of(tmp_path)
    params, carry = problem.init(jax.random.key(0))
    batch = problem.batch(1, np.arange(8))
    length = int(batch.mask[:, 0].sum())
    assert 5 <= length < len(batch.mask)
    cut = jax.tree.map(lambda a: a[:length] if a.ndim == 2 else a, batch)
    got = jax.jit(problem.loss)(params, carry, batch, None)
    want = jax.jit(plain.loss)(params, carry, cut, None)
    chex.assert_trees_all_close(got, want, rtol=1e-5)
    assert float(problem.rate(batch)) == pytest.approx(length / 16)
    assert plain.rate(cut) == 1


class Shared(Problem):
    """One number, pulled by 1 in every step; half the rate in every other."""

    rows = 1

    def init(self, key):
        return jnp.float32(0), ()

    def loss(self, params, carry, batch, key):
        return -params * jnp.mean(batch), carry, {}

    def batch(self, step, rows):
        return np.ones(1, np.float32)

    def rate(self, batch):
        return jnp.float32(0.5)

    def evaluation(self, split):
        return [np.ones(1, np.float32)] if split == "valid" else None


def test_a_problem_may_learn_from_a_batch_at_a_part_of_the_rate():
    rate = optax.constant_schedule(0.2)
    trainer = Trainer(Shared(), optax.sgd(rate), rate)
    state, metrics = trainer.step(trainer.init(0), trainer.batch(0))
    assert float(state.params) == float(metrics["learning_rate"]) == np.float32(0.1)


# Penalties and dropout of words.


def test_penalties_are_the_means_of_squares_of_the_last_layers_outputs(tmp_path):
    plain = problem_of(tmp_path, layers=2)
    params, carry = plain.init(jax.random.key(0))
    batch = plain.batch(0, np.arange(8))
    problems = {
        penalty: problem_of(tmp_path, **({"layers": 2} | {penalty: 3.0}))
        for penalty in ("activation_penalty", "temporal_penalty")
    }
    nats, _, told = plain.loss(params, carry, batch, None)
    assert told == {}
    _, ys, whole = plain.model(params).outputs(batch.inputs, carry)
    chex.assert_trees_all_equal(ys, whole)
    squares = {
        "activation_penalty": np.mean(np.square(ys)),
        "temporal_penalty": np.mean(np.square(ys[1:] - ys[:-1])),
    }
    for penalty, problem in problems.items():
        loss, _, told = problem.loss(params, carry, batch, None)
        assert float(loss) == pytest.approx(float(nats) + 3 * squares[penalty], rel=1e-5)
        assert float(told["nats"]) == pytest.approx(float(nats), rel=1e-6)


def test_what_is_dropped_and_what_is_not_are_both_told():
    layers = [LSTM(4, 5)]
    model = LanguageModel(7, 4, layers, dropout=(0.0, 0.0, 0.5), rngs=nnx.Rngs(0))
    tokens = jnp.zeros((3, 2), jnp.int32)
    _, ys, whole = model.outputs(tokens, key=jax.random.key(0))
    chex.assert_trees_all_close(whole, model.outputs(tokens)[2])
    kept = ys != 0
    assert 0 < int(kept.sum()) < kept.size
    chex.assert_trees_all_close(ys, jnp.where(kept, 2 * whole, 0))


def test_dropped_words_are_dropped_whole_and_everywhere():
    model = LanguageModel(
        50, 4, [LSTM(4, 5)], embedding_dropout=0.4, tied=True, rngs=nnx.Rngs(0)
    )
    tokens = jnp.arange(100).reshape(2, 50).T % 50
    table = model.embedding.embedding[...]
    xs = model._embed(tokens, jax.random.key(0))
    dropped = np.asarray((xs == 0).all(-1))
    np.testing.assert_array_equal(dropped[:, 0], dropped[:, 1])
    assert 0.2 < dropped.mean() < 0.6
    np.testing.assert_allclose(xs[~dropped], table[tokens][~dropped] / 0.6, rtol=1e-6)
    chex.assert_trees_all_equal(model._embed(tokens, None), table[tokens])
    with pytest.raises(ValueError, match="embedding_dropout must lie in"):
        LanguageModel(50, 4, [LSTM(4, 5)], embedding_dropout=1.0, rngs=nnx.Rngs(0))


# NT-ASGD.


def begun_by_hand(losses, n):
    """As Merity et al. write it: the index of the evaluation that begins the mean."""
    for t, loss in enumerate(losses):
        if t > n and loss > min(losses[: t - n]):
            return t
    return None


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_trigger_is_that_of_the_paper(n, seed):
    losses = np.random.default_rng(seed).normal(size=20) - 0.3 * np.arange(20)
    trigger = Trigger.after_none(n)
    met = None
    for t, loss in enumerate(losses):
        trigger = trigger.after(float(loss), jnp.int32(10 * t))
        if met is None and int(trigger.begun) != NEVER:
            met = t
            assert int(trigger.begun) == 10 * t
    assert met == begun_by_hand([np.float32(x) for x in losses], n)


def test_the_mean_begins_with_the_trigger_and_one_program_serves_before_and_after():
    trainer = Trainer(Shared(), optax.sgd(1.0), average_after=1)
    state, seen = trainer.init(0), []
    for step in range(12):
        state, _ = trainer.step(state, trainer.batch(step))
        seen.append(float(state.params))
        if step < 6:
            want = seen[-1]  # nothing has begun: what is evaluated are the params
        else:
            want = np.mean(seen[6:])
        assert float(state.evaluated_params) == pytest.approx(want, rel=1e-6)
        if step % 2:
            # 1, 3, 5: the third is worse than the first.
            state = trainer.after_evaluation(
                state, [1.0, 0.5, 2.0, 0.1, 0.2, 9.0][step // 2]
            )
    assert trainer._step._cache_size() == 1
    assert int(state.evaluations.trigger.begun) == 6


def test_a_mean_from_the_start_and_what_cannot_be():
    trainer = Trainer(Shared(), optax.sgd(1.0), average_after=0)
    state, seen = trainer.init(0), []
    for step in range(4):
        state, _ = trainer.step(state, trainer.batch(step))
        seen.append(float(state.params))
    assert float(state.averages) == pytest.approx(np.mean(seen))
    for options in ({"average_after": -1}, {"average_after": 2, "average": 0.9}):
        with pytest.raises(ValueError, match="average_after must be 0 or more, and"):
            Trainer(Shared(), optax.sgd(1.0), **options)


# The whole, killed.

AWD = {
    "cell": "lstm",
    "layers": 3,
    "hidden_size": 6,
    "embedding_size": 5,
    "last_size": 5,
    "eval_every": 3,
    "average_after": 1,
    "dropout_input": 0.4,
    "dropout_between": 0.25,
    "embedding_dropout": 0.1,
    "weight_drop": 0.5,
    "activation_penalty": 2.0,
    "temporal_penalty": 1.0,
    "torch_init": 0.1,
    "optimiser": "sgd",
    "schedule": "constant",
    "learning_rate": 30.0,
    "clip": 0.25,
    "weight_decay": 1.2e-6,
}


@pytest.mark.slow
def test_a_run_killed_after_the_trigger_ends_with_the_same_bits(
    call, tmp_path, monkeypatch
):
    arena = Arena.create(tmp_path)
    whole, killed, tuned = (tmp_path / name for name in ("whole", "killed", "tuned"))

    def start(run_dir, **changes):
        flags = "--varied-lengths", "--tied"
        return call(train.main, *arena.options(run_dir, **(AWD | changes)), *flags)

    code, _, error = start(whole)
    assert code == 0, error
    batch = VariedLanes.batch

    def gone(self, step, rows=None):
        if step == 25:
            raise OSError("the machine is gone")
        return batch(self, step, rows)

    with monkeypatch.context() as patch:
        patch.setattr(VariedLanes, "batch", gone)
        assert start(killed)[0] == 1
    assert not (killed / "result.json").exists()
    code, out, error = start(killed)
    assert code == 0 and "going on from step" in out, error
    assert result(killed)["state_sha256"] == result(whole)["state_sha256"]
    assert moments.rows(killed) == moments.rows(whole)
    rows = read_metrics(whole / "metrics.jsonl")
    losses = [row["valid_loss"] for row in rows if "valid_loss" in row]
    assert 3 * begun_by_hand(losses, 1) + 3 < 24  # met before the kill
    assert rows[0]["nats"] < rows[0]["loss"]

    # Fine-tuned: another run begins where the best of this one is.
    more = {"average_after": 0, "steps": 3, "learning_rate": 1e-6}
    code, _, error = start(tuned, init_from=whole, **more)
    assert code == 0, error
    begun = read_metrics(tuned / "metrics.jsonl")[-1]["valid_loss"]
    assert begun == pytest.approx(min(losses), abs=1e-3)

import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from recurrences import RECURRENCES

from experiments.language_model.config import PRESETS, Config
from experiments.language_model.problem import make_model
from experiments.long_lag import config as long_lag
from experiments.music import config as music
from experiments.sentiment import config as sentiment
from jaxrnn import LSTM, Elman, LayerNormLSTM, PeepholeLSTM, unroll
from jaxrnn.data.lanes import TokenLanes
from jaxrnn.models.cells import CELLS
from jaxrnn.training.mesh import rows_here, where_even
from jaxrnn.training.optimiser import make_plateau, make_schedule, make_transform
from jaxrnn.training.problem import Problem
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.loop import Plan
from jaxrnn.training.run.metrics import MetricsLog, read_metrics
from jaxrnn.training.run.options import Options
from jaxrnn.training.run.plot import plot_losses
from jaxrnn.training.run.progress import Progress, quality
from jaxrnn.training.run.stop import StopRequest
from jaxrnn.training.state import count
from jaxrnn.training.trainer import Trainer

# Data.


def test_every_batch_goes_on_where_the_one_before_ended():
    lanes = TokenLanes(np.arange(100, dtype=np.uint8), lanes=3, length=4)
    assert (lanes.lane_length, lanes.steps_per_epoch) == (33, 8)
    batches = [lanes.batch(step) for step in range(17)]
    for step, batch in enumerate(batches):
        assert batch.inputs.shape == (4, 3) and batch.inputs.dtype == np.int32
        np.testing.assert_array_equal(batch.targets, batch.inputs + 1)
        assert batch.mask.all() and batch.mask.shape == (4, 3)
        assert batch.fresh.tolist() == [step % 8 == 0] * 3
        if step % 8:
            np.testing.assert_array_equal(batch.inputs[0], batches[step - 1].targets[-1])
    np.testing.assert_array_equal(batches[0].inputs[0], [0, 33, 66])
    chex.assert_trees_all_equal(batches[16], batches[0])


def test_a_text_on_disk_gives_the_same_batches(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 300, 57).astype(np.uint16)
    tokens.tofile(tmp_path / "tokens")
    mapped = np.memmap(tmp_path / "tokens", np.uint16, mode="r")
    here, there = TokenLanes(tokens, 2, 5), TokenLanes(mapped, 2, 5)
    chex.assert_trees_all_equal(there.batch(3), here.batch(3))
    chex.assert_trees_all_equal(list(there.every_token()), list(here.every_token()))


@pytest.mark.parametrize("size", [13, 14, 24, 25, 26, 100, 101])
def test_evaluation_predicts_every_token_but_the_first_once(size):
    tokens = np.arange(size, dtype=np.uint8)
    lanes = TokenLanes(tokens, lanes=4, length=3)
    targets, before = Counter(), None
    for n, batch in enumerate(lanes.every_token()):
        assert batch.inputs.shape == batch.targets.shape == batch.mask.shape == (3, 4)
        assert batch.fresh.tolist() == [n == 0] * 4
        targets.update(batch.targets[batch.mask].tolist())
        np.testing.assert_array_equal(
            batch.targets[batch.mask], batch.inputs[batch.mask] + 1
        )
        if before is not None:
            goes_on = batch.mask[0]
            assert before.mask[:, goes_on].all()
            np.testing.assert_array_equal(
                batch.inputs[0, goes_on], before.targets[-1, goes_on]
            )
        before = batch
    assert targets == Counter(range(1, size))


@pytest.mark.parametrize(
    "size, lanes, length, message",
    [
        (12, 3, 4, "12 tokens are too few for 3 lanes of 4"),
        (0, 1, 1, "0 tokens are too few"),
        (99, 0, 4, "got 0 of 4"),
        (99, 3, 0, "got 3 of 0"),
        (99, -3, -2, "got -3 of -2"),
    ],
)
def test_a_text_too_short_or_batches_without_size_are_refused(size, lanes, length, message):
    with pytest.raises(ValueError, match=message):
        TokenLanes(np.zeros(size, np.uint8), lanes, length)


def test_a_text_of_just_one_batch_is_enough():
    assert TokenLanes(np.zeros(13, np.uint8), 3, 4).steps_per_epoch == 1


# Learning rates and optimisers.


# Optax itself promotes silently.
@pytest.fixture(autouse=True)
def optax_may_promote():
    with jax.numpy_dtype_promotion("standard"):
        yield


STAIRS = dict(decay_begin=1, decay_every=1, decay=0.5)


def schedule(name, peak=2.0, **options):
    return make_schedule(name, peak, **({"steps": 10, "warmup": 0} | STAIRS | options))


@pytest.mark.parametrize(
    "rate, want",
    [
        (schedule("constant"), [2] * 11),
        (schedule("constant", warmup=4), [0, 0.5, 1, 1.5] + [2] * 7),
        (schedule("cosine"), [1 + np.cos(np.pi * n / 10) for n in range(11)]),
        (
            schedule("cosine", warmup=2),
            [0, 1, *(1 + np.cos(np.pi * n / 8) for n in range(9))],
        ),
        (schedule("stairs"), [2 * 0.5**n for n in range(11)]),
        (schedule("stairs", decay_begin=3, decay_every=4), [2] * 3 + [1] * 4 + [0.5] * 4),
        (schedule("stairs", decay_begin=8, decay_every=2), [2] * 8 + [1] * 2 + [0.5]),
        (
            schedule("stairs", warmup=2, decay_begin=3, decay_every=4),
            [0, 1, 2, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5],
        ),
    ],
    ids=range(8),
)
def test_the_learning_rate_of_every_step_is_the_one_by_hand(rate, want):
    got = [float(rate(jnp.int32(n))) for n in range(11)]
    np.testing.assert_allclose(got, want, atol=1e-6)
    traced = jax.vmap(jax.jit(rate))(jnp.arange(11, dtype=jnp.int32))
    np.testing.assert_allclose(traced, want, atol=1e-6)


def test_the_small_model_of_zaremba_halves_its_rate_every_epoch_from_the_fifth():
    _, config = PRESETS["ptb-small"]
    epoch = (929_589 - 1) // 20 // 20
    rate = config.make_optimiser().schedule
    assert epoch == 2323 and config.steps == 13 * epoch
    for number in range(1, 14):
        first, last = (number - 1) * epoch, number * epoch - 1
        want = 20 * 0.5 ** max(number - 4, 0)
        for step in (first, last):
            np.testing.assert_allclose(float(rate(jnp.int32(step))), want, rtol=1e-6)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("line", {}, "unknown schedule 'line'; known: constant, cosine, stairs, plateau"),
        ("cosine", {"warmup": 10}, "less than the 10 steps, got 10"),
        ("cosine", {"warmup": -1}, "0 or more and less than the 10 steps, got -1"),
        ("stairs", {"decay_every": 0}, "decay_every must be 1 or more, got 0"),
    ],
)
def test_a_schedule_that_is_none_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        schedule(name, **options)


PARAMS = np.array([0.5, -2.0, 1.0])
GRADIENTS = np.array([[0.3, -0.4, 0.0], [3.0, 4.0, 0.0]])  # norms 0.5 and 5
RATE, DECAY, CLIP = 0.1, 0.25, 1.0


def adam(gradients, coupled, decoupled):
    params, m, v = PARAMS, 0.0, 0.0
    for n, gradient in enumerate(gradients, start=1):
        gradient = gradient + coupled * params
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        update = (m / (1 - 0.9**n)) / (np.sqrt(v / (1 - 0.999**n)) + 1e-8)
        params = params - RATE * (update + decoupled * params)
    return params


def rmsprop(gradients):
    params, v = PARAMS, 0.0
    for gradient in gradients:
        gradient = gradient + DECAY * params
        v = 0.9 * v + 0.1 * gradient**2
        params = params - RATE * gradient / np.sqrt(v + 1e-8)
    return params


def sgd(gradients):
    params = PARAMS
    for gradient in gradients:
        params = params - RATE * (gradient + DECAY * params)
    return params


@pytest.mark.parametrize(
    "name, by_hand",
    [
        ("adamw", lambda gradients: adam(gradients, coupled=0.0, decoupled=DECAY)),
        ("adam", lambda gradients: adam(gradients, coupled=DECAY, decoupled=0.0)),
        ("rmsprop", rmsprop),
        ("sgd", sgd),
    ],
)
def test_an_optimiser_moves_as_by_hand_behind_its_clip(name, by_hand):
    optimiser = make_transform(name, RATE, DECAY, CLIP)
    params = jnp.asarray(PARAMS, jnp.float32)
    state = optimiser.init(params)
    for gradient in GRADIENTS:
        updates, state = optimiser.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
    clipped = [GRADIENTS[0], GRADIENTS[1] / 5]
    np.testing.assert_allclose(params, by_hand(clipped), rtol=1e-5)
    assert np.abs(params - by_hand(GRADIENTS)).max() > 1e-3


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("cell", [LSTM(2, 3), PeepholeLSTM(2, 3), LayerNormLSTM(2, 3)])
def test_weight_decay_shrinks_matrices_alone_unless_told_to_shrink_all(name, cell):
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), [shapes, jnp.ones((5, 2))])
    nothing = jax.tree.map(jnp.zeros_like, params)
    for of, small in (("matrices", 0.0), ("all", -0.1)):
        options = Options(
            optimiser=name, learning_rate=1.0, weight_decay=0.1, weight_decay_of=of
        )
        transform = options.make_optimiser().transform
        updates, _ = transform.update(nothing, transform.init(params), params)
        for leaf in jax.tree.leaves(updates):
            want = -0.1 if leaf.ndim >= 2 else small
            np.testing.assert_allclose(leaf, np.full(leaf.shape, want), rtol=1e-6)


def test_presets_with_a_figure_shrink_what_they_shrank_when_it_was_measured():
    presets = [PRESETS, long_lag.PRESETS, music.PRESETS, sentiment.PRESETS]
    decaying = [
        config.weight_decay_of
        for _, config in (pair for each in presets for pair in each.values())
        if config.weight_decay
    ]
    assert len(decaying) >= 3 and set(decaying) == {"all"}


def test_adam_without_a_mean_of_the_gradient_scales_each_gradient_by_its_size():
    optimiser = make_transform("adam", RATE, 0.0, np.inf, beta1=0.0)
    params, v = jnp.asarray(PARAMS, jnp.float32), 0.0
    state = optimiser.init(params)
    for n, gradient in enumerate(GRADIENTS, start=1):
        updates, state = optimiser.update(jnp.asarray(gradient, jnp.float32), state, params)
        v = 0.999 * v + 0.001 * gradient**2
        size = np.sqrt(v / (1 - 0.999**n)) + 1e-8
        np.testing.assert_allclose(updates, -RATE * gradient / size, rtol=1e-4)


def test_a_loss_may_be_descended_so_many_times():
    params, gradient = jnp.zeros(2), jnp.array([3.0, 4.0])
    for factor, clip, want in ((10.0, np.inf, 50.0), (10.0, 20.0, 20.0), (0.1, 20.0, 0.5)):
        transform = make_transform("sgd", 1.0, 0.0, clip, loss_factor=factor)
        updates, _ = transform.update(gradient, transform.init(params), params)
        np.testing.assert_allclose(updates, -gradient / 5 * want, rtol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"loss_factor": 0.0}, "loss_factor must be above 0 and finite, got 0.0"),
        ({"beta1": 0.5}, "is for adam and adamw, got 0.5 for sgd"),
    ],
)
def test_what_an_optimiser_does_not_take_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_transform("sgd", RATE, 0.0, 1.0, **options)


def test_a_plateau_wants_a_gain_of_its_threshold():
    for threshold, scale in ((1e-3, 0.5), (1e-8, 1.0)):
        plateau = make_plateau(0.5, 1, threshold)
        state = plateau.init(jnp.zeros(1))
        for loss in (5.0, 4.999):
            _, state = plateau.update((), state, value=loss)
        assert float(state.scale) == scale
    with pytest.raises(ValueError, match="a threshold in"):
        make_plateau(0.5, 1, 0.0)


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ValueError, match="unknown optimiser 'lion'; known: adamw, adam,"):
        make_transform("lion", RATE, DECAY, CLIP)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan")])
def test_a_clip_that_would_stop_or_turn_the_descent_is_refused(clip):
    with pytest.raises(ValueError, match=f"clip must be above 0, .*got {clip}"):
        make_transform("sgd", RATE, DECAY, clip)


def test_a_schedule_counts_steps_of_several_updates():
    options = Options(optimiser="sgd", schedule="cosine", steps=10, learning_rate=1.0)
    optimiser = options.make_optimiser(updates_per_step=3)
    params, moved = jnp.float32(0), []
    state = optimiser.transform.init(params)
    for _ in range(30):
        update, state = optimiser.transform.update(jnp.float32(-0.5), state, params)
        moved.append(float(update))
    rates = [0.5 * float(optimiser.schedule(jnp.int32(n))) for n in range(10)]
    np.testing.assert_allclose(moved, np.repeat(rates, 3), rtol=1e-6)
    assert moved[-1] > 0.01


def test_rows_that_do_not_divide_lie_whole_on_every_device():
    mesh = AbstractMesh((2,), ("data",))
    lies = where_even(PROBLEM.batch_spec, mesh)
    assert lies(np.zeros((4, 3))) == lies(np.zeros(3)) == PartitionSpec()
    assert lies(np.zeros((4, 2))) == PartitionSpec(None, "data")
    np.testing.assert_array_equal(rows_here(3, mesh), [0, 1, 2])


def test_summing_over_20_steps_is_a_mean_with_20_times_the_rate_and_a_20th_of_the_clip():
    """What the ptb-small preset says of itself."""
    _, config = PRESETS["ptb-small"]
    steps, (rate, clip) = config.sequence_length, (1.0, 5.0)
    assert (config.learning_rate, config.clip) == (steps * rate, clip / steps)
    params = {"w": jnp.array([0.3, -0.2]), "b": jnp.array(0.1)}
    for size in (0.01, 100.0):  # below the clip, and above it
        mean = jax.tree.map(lambda p: size * (p + 1), params)  # noqa: B023
        total = jax.tree.map(lambda g: steps * g, mean)
        moved = []
        for gradient, one in (
            (mean, make_transform("sgd", config.learning_rate, 0.0, config.clip)),
            (total, make_transform("sgd", rate, 0.0, clip)),
        ):
            updates, _ = one.update(gradient, one.init(params), params)
            moved.append(updates)
        chex.assert_trees_all_close(*moved, rtol=1e-6)
        assert float(optax.tree.norm(moved[0])) == pytest.approx(
            min(rate * steps * float(optax.tree.norm(mean)), rate * clip), rel=1e-5
        )


# The update.


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=repr)
def test_an_initial_carry_can_be_donated(recurrence):
    """No buffer occurs twice in it, nor is one of the parameters'."""
    shapes = jax.eval_shape(recurrence.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    carry = recurrence.initial_carry(params, (2,))
    buffers = [
        leaf.unsafe_buffer_pointer()
        for leaf in jax.tree.leaves((params, carry))
        if leaf.size
    ]
    assert len(set(buffers)) == len(buffers)


CELL, LENGTH = Elman(1, 3), 4


class Example(Problem):
    """Noise to be told from noise by a cell whose carry goes on from batch to batch."""

    rows = 2

    def init(self, key):
        params = CELL.init(jax.random.key(1))
        return params, CELL.initial_carry(params, (self.rows,))

    def loss(self, params, carry, batch, key):
        inputs, targets = batch
        noise = jax.random.normal(key, ())
        carry, ys = unroll(CELL, params, inputs, carry)
        return jnp.mean((ys - targets) ** 2) * (1 + 0.01 * noise), carry, {}

    def batch(self, step, rows):
        draw = np.random.default_rng(step)
        numbers = draw.normal(size=(2, LENGTH, self.rows, 3)).astype(np.float32)
        inputs, targets = numbers[:, :, rows]
        return inputs[..., :1], targets


PROBLEM = Example()


@pytest.fixture(scope="module")
def trained():
    """Three updates by the compiled step: the states before each, and the metrics."""
    rate = schedule("stairs")
    trainer = Trainer(PROBLEM, make_transform("sgd", rate, 0.1, 0.05), rate)
    state = trainer.init(seed=3)
    states, metrics = [state], []
    kept = [jax.tree.map(jnp.copy, state)]
    for n in range(3):
        state, measured = trainer.step(state, trainer.batch(n))
        states.append(state)
        kept.append(jax.tree.map(jnp.copy, state))
        metrics.append(measured)
    return states, kept, metrics


def test_an_update_takes_the_memory_of_the_state_before(trained):
    states, _, _ = trained
    for state in states[:-1]:
        moving = (state.step, state.params, state.opt_state, state.carry)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(moving))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(states[-1]))


def test_truncated_backpropagation_is_the_update_by_hand(trained):
    _, states, metrics = trained

    def loss_of(*arguments):
        loss, carry, _ = PROBLEM.loss(*arguments)
        return loss, carry

    for n in range(3):
        before, after = states[n], states[n + 1]
        key = jax.random.fold_in(jax.random.key(3), n)
        (loss, carry), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            before.params, before.carry, PROBLEM.batch(n, np.arange(2)), key
        )
        norm = float(np.sqrt(sum(float(jnp.sum(g**2)) for g in gradient)))
        rate = 2 * 0.5**n
        want = jax.tree.map(
            lambda p, g: p - rate * (g * min(1, 0.05 / norm) + 0.1 * p),  # noqa: B023
            before.params,
            gradient,
        )
        assert norm > 0.05
        chex.assert_trees_all_close(after.params, want, atol=1e-6)
        chex.assert_trees_all_close(after.carry, carry, atol=1e-6)
        assert int(after.step) == n + 1
        got = {name: float(value) for name, value in metrics[n].items()}
        assert got == pytest.approx(
            {
                "loss": float(loss),
                "gradient_norm": norm,
                "learning_rate": rate,
                "finite": 1.0,
            },
            rel=1e-5,
        )
    assert float(jnp.abs(states[1].carry.h).max()) > 0.01


def test_a_state_remembers_its_best_evaluation(trained):
    _, states, _ = trained
    trainer = Trainer(PROBLEM, optax.sgd(0.1))
    state = trainer.after_evaluation(states[1], 2.0)
    best, before = state.evaluations, states[1].evaluations
    assert (float(best.best_loss), int(best.best_step)) == (2.0, 1)
    assert best.best_loss.sharding == before.best_loss.sharding
    for worse in (2.0, 3.0, float("nan")):
        after = trainer.after_evaluation(state, worse).evaluations
        assert after.best_loss is best.best_loss and after.best_step is best.best_step
    for tie in (0.1, 0.7):  # one is rounded up in float32, the other down
        best = trainer.after_evaluation(states[1], tie)
        again = trainer.after_evaluation(best, tie).evaluations
        assert again.best_step is best.evaluations.best_step
    assert count(states[0].params) == 3 + 9 + 3
    assert count({"weights": np.zeros(3), "met": np.zeros(5, np.int32)}) == 3


@pytest.mark.parametrize("name", ["steps", "eval_every", "checkpoint_every", "log_every"])
def test_a_plan_without_steps_is_refused(name):
    numbers = dict.fromkeys(["steps", "eval_every", "checkpoint_every", "log_every"], 1)
    with pytest.raises(ValueError, match=f"{name} must be 1 or more, got 0"):
        Plan(**numbers | {name: 0})


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_on_the_command_line_makes_a_model(name):
    config = Config(cell=name.upper(), hidden_size=4, embedding_size=4, layers=2)
    tokens = jax.ShapeDtypeStruct((3, 2), jnp.int32)
    model = make_model(config, 5)
    logits = jax.eval_shape(lambda p, tokens: model(p)(tokens)[1], model.like, tokens)
    assert logits.shape == (3, 2, 5)


def test_uniform_parameters_lie_within_their_bound():
    pure = make_model(Config(uniform_init=0.1, hidden_size=8, embedding_size=4), 5)
    model = pure(pure.init(jax.random.key(0)))
    layer = model.layers[0].arrays()
    for leaf in (*layer, model.embedding.embedding[...], model.output.kernel[...]):
        assert 0.05 < float(jnp.abs(leaf).max()) <= 0.1


# Metrics, picture, progress.


def test_a_log_is_cut_back_to_a_step_and_loses_an_unfinished_line(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert read_metrics(log.path) == []
    log.cut_back(0)
    rows = [{"step": n, "loss": 0.1 + n / 3} for n in (1, 2, 3)]
    log.write(rows[:2])
    first_two = log.path.read_bytes()
    log.write([{"step": 2, "valid_loss": float("nan")}])
    to_step_2 = log.path.read_bytes()
    log.write(rows[2:])
    with log.path.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in read_metrics(log.path)] == [1, 2, 2, 3]
    log.cut_back(2)
    assert log.path.read_bytes() == to_step_2
    log.cut_back(1)
    assert log.path.read_bytes() == first_two.splitlines(keepends=True)[0]
    log.write(rows[1:2])
    assert log.path.read_bytes() == first_two
    log.path.write_bytes(b"\r\n" + first_two.replace(b"\n", b"\r\n") + b"\n")
    assert read_metrics(log.path) == rows[:2]
    for odd in (b"3\n", b'{"loss": 1}\n'):
        log.path.write_bytes(odd + first_two)
        with pytest.raises(ValueError, match="line 1 of .*metrics.jsonl is no row"):
            read_metrics(log.path)
    log.path.write_bytes(first_two.replace(b"\n", b"\r", 1))
    with pytest.raises(ValueError, match="line 1 of .*metrics.jsonl is not JSON"):
        read_metrics(log.path)
    log.path.write_bytes(b"\0\0\n" + first_two)
    with pytest.raises(ValueError, match="line 1 of .*metrics.jsonl is not JSON"):
        log.cut_back(1)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"step": n, "loss": 3 - n / 100} for n in range(1, 121)]
        + [{"step": 60, "valid_loss": 2.5}, {"step": 120, "valid_loss": 2.0}],
        [{"step": 1, "loss": float("nan")}, {"step": 1, "valid_loss": float("nan")}],
        [{"step": 1, "loss": 2.0}, {"step": 1, "valid_loss": float("inf")}],
    ],
    ids=["none", "a run", "not a number", "infinite"],
)
def test_the_picture_of_any_run_is_a_png(tmp_path, rows):
    MetricsLog(tmp_path / "metrics.jsonl").write(rows)
    plot_losses(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "nats/character")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys):
    with Progress(40, 10, 100, "nats/character", seconds=5.0) as progress:
        progress.training(20, np.log(4), 1e-3)
        progress.evaluation(20, {"loss": np.log(8)}, True)
        progress.say("done")
        assert progress.seconds >= 5
    out, err = capsys.readouterr()
    training, evaluation, said = out.splitlines()
    assert training.startswith("step 20/40  loss 1.386  2.000 bits/character  lr 1.00e-03")
    assert " tokens/s  " in training and training.endswith(" left")
    assert evaluation == "step 20/40  valid loss 2.0794  3.000 bits/character  best so far"
    assert (said, err) == ("done", "")


def test_a_long_evaluation_is_seen_to_go_on(capsys, monkeypatch):
    with Progress(40, 10, 100, "nats/character") as progress:
        progress.evaluating(0, 9)
        progress.evaluating(1, 9)  # half a minute has not passed
        monkeypatch.setattr("jaxrnn.training.run.progress.SAID_EVERY", 0.0)
        progress.evaluating(2, 9)
    assert capsys.readouterr().out == "evaluating: 2 of 9 batches\n"


def test_progress_on_a_terminal_is_one_bar(capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("jaxrnn.training.run.progress.SHOWN_EVERY", 0.0)
    with Progress(40, 10, 100, "nats/word") as progress:
        progress.training(20, np.log(90), 1e-3)
        progress.evaluating(3, 7)
        progress.training(30, np.log(80), 1e-3)
    assert "20/40" in terminal.getvalue() and "evaluating: 3/7" in terminal.getvalue()
    assert "perplexity 80.00" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_a_loss_is_told_as_the_field_tells_it():
    assert quality(np.log(2), "nats/byte") == "1.000 bits/byte"
    assert quality(np.log(120), "nats/word") == "perplexity 120.00"
    assert quality(1e9, "nats/word").startswith("perplexity 1")
    assert quality(1.0, "nats/sentence") == ""


# The run directory.

FREE = frozenset({"data"})
DESCRIPTION = {"cell": "lstm", "layers": 1, "data": Path("a.txt"), "split": (0.9, 0.1)}


def test_a_run_is_begun_and_gone_on_with(tmp_path):
    run = RunDirectory(tmp_path / "a" / "run")
    with pytest.raises(ValueError, match="no run at .*/a/run: it has no config.json"):
        run.read_config()
    with pytest.raises(ValueError, match="holds no run and --resume is must"):
        run.compare(DESCRIPTION, "must", free=FREE)
    for resume in ("auto", "never"):
        assert run.compare(DESCRIPTION, resume, free=FREE) == {}
    assert not run.path.exists()
    run.enter(DESCRIPTION)
    for resume in ("auto", "must"):
        assert run.compare(DESCRIPTION, resume, free=FREE) == {}
    with pytest.raises(ValueError, match="holds a run already and --resume is never"):
        run.compare(DESCRIPTION, "never", free=FREE)
    assert run.read_config() == json.loads(json.dumps(DESCRIPTION, default=str))


def test_a_changed_field_is_named_with_both_values(tmp_path):
    run = RunDirectory(tmp_path)
    run.enter(DESCRIPTION | {"tied": False})
    changed = DESCRIPTION | {"tied": False, "cell": "gru", "layers": 2, "data": "b.txt"}
    for resume in ("auto", "must"):
        with pytest.raises(ValueError) as refusal:
            run.compare(changed, resume, free=FREE)
        assert "cell was 'lstm' and is now 'gru'" in str(refusal.value)
        assert "layers was 1 and is now 2" in str(refusal.value)
        assert "data" not in str(refusal.value) and "split" not in str(refusal.value)
    with pytest.raises(ValueError, match="tied was False and is now None"):
        run.compare(DESCRIPTION, "auto", free=FREE)


def test_a_free_field_may_change(tmp_path):
    run = RunDirectory(tmp_path)
    run.enter(DESCRIPTION)
    assert run.compare(DESCRIPTION | {"data": "b.txt"}, "must", free=FREE) == {}


# Stopping.

WAIT = """
import time
from jaxrnn.training.run.stop import StopRequest
with StopRequest() as stop:
    print("ready", flush=True)
    while not stop.agreed(True):
        time.sleep(0.01)
    print(stop.signal.name, flush=True)
    # In short naps: Python sees a signal that comes just before a nap when it ends.
    for _ in range(6000):
        time.sleep(0.01)
"""


@pytest.mark.parametrize(
    "first, second",
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM)],
)
def test_the_first_signal_is_remembered_and_the_second_ends_at_once(first, second):
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(first)
    assert process.stdout.readline() == f"{first.name}\n"
    process.send_signal(second)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + second
    assert errors.startswith(f"{first.name}: stopping after this step, the state saved;")
    assert errors.count("\n") == 1


def test_the_handlers_of_before_are_back_afterwards():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    with StopRequest() as stop:
        assert not stop.agreed(False)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.agreed(False) and stop.signal is signal.SIGTERM
    assert [signal.getsignal(number) for number in numbers] == before


BLOCKS = {
    "pre-norm": {"block": "pre-norm"},
    "with dense layers": {"block": "pre-norm", "feed_forward": 12, "dropout": 0.2},
    "narrow": {"block": "pre-norm", "feed_forward": 12, "precision": "bfloat16"},
    "transformer": {"cell": "transformer", "heads": 2, "dropout": 0.2},
}


@pytest.mark.slow
@pytest.mark.parametrize("options", BLOCKS.values(), ids=BLOCKS)
def test_blocks_and_transformers_are_models_of_language(options):
    config = Config(hidden_size=4, embedding_size=4, layers=3, **options)
    tokens = jnp.arange(6, dtype=jnp.int32).reshape(3, 2) % 5
    model = make_model(config, 5)
    run = jax.jit(lambda p, tokens, key: model(p)(tokens, key=key)[1])
    params = model.init(jax.random.key(0))
    logits, noisy = run(params, tokens, None), run(params, tokens, jax.random.key(1))
    assert logits.shape == (3, 2, 5) and logits.dtype == jnp.float32
    chex.assert_trees_all_close(run(params, tokens.at[2].set(0), None)[:2], logits[:2])
    assert bool(jnp.any(noisy != logits)) == ("dropout" in options)


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"feed_forward": 8}, "feed_forward is for --block pre-norm and for a trans"),
        ({"cell": "transformer", "tied": True}, "tied is for recurrent cells"),
        ({"cell": "transformer", "block": "pre-norm"}, "block is for recurrent cells"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        Config(**options)


def test_a_block_needs_embeddings_as_wide_as_its_layers():
    with pytest.raises(ValueError, match="PreNorm needs equal input and output sizes, got"):
        make_model(Config(block="pre-norm"), 5)

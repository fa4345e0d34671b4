"""The long lag experiment: its sequences by their rules, its criteria, and a whole run."""

import json
import re
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.long_lag import realtime
from experiments.long_lag.config import PRESETS
from experiments.long_lag.criteria import Examined, Window
from experiments.long_lag.network import Network
from experiments.long_lag.plot import draw as draw_picture
from experiments.long_lag.problem import LongLag
from experiments.long_lag.reber import SYMBOLS, embedded_string
from experiments.long_lag.tasks import (
    Arithmetic,
    BaiAdding,
    BaiCopy,
    Distractors,
    EmbeddedReber,
    NoisySequences,
    Result,
    TemporalOrder,
    TwoSequences,
)
from experiments.long_lag.train import main
from experiments.long_lag.transformer import TransformerNetwork
from experiments.long_lag.trials import LEARN, Trials, make_trials
from jaxrnn import LSTM1997, unroll
from jaxrnn.diagnostics import walk
from jaxrnn.training.run.directory import RunDirectory


def draw(task, count=200):
    keys = jax.random.split(jax.random.key(3), count)
    examples = jax.jit(jax.vmap(lambda key: task.draw(key, jnp.int32(0))))(keys)
    for n in range(count):
        yield jax.tree.map(lambda a, n=n: np.asarray(a)[n], examples)


def last(example):
    """The step that is scored, the only one."""
    (at,) = np.flatnonzero(example.scored)
    return at


# Sequences.

# The grammar once more, as a regular expression.
TO_END = "(XT*VP)*(S|XT*VV)"  # from where its two branches meet
REBER = f"B(TS*X{TO_END}|PT*V(V|P{TO_END}))E"


def test_embedded_strings_keep_their_second_symbol_and_follow_the_grammar():
    generator = np.random.default_rng(0)
    for _ in range(300):
        text, legal = embedded_string(generator)
        assert text[0] == "B" and text[-1] == "E" and text[1] == text[-2] in "TP"
        assert re.fullmatch(REBER, text[2:-2]), text
        assert len(legal) == len(text) - 1
        assert all(s in allowed for s, allowed in zip(text[1:], legal, strict=True))
        assert legal[0] == "TP" and legal[-2] == text[1] and legal[-1] == "E"
        # After B, T: S or X; after B, P: T or V.
        assert set(legal[3]) == set("SX" if text[3] == "T" else "TV")


def test_a_reber_string_is_right_where_all_that_is_legal_is_most_active():
    task = EmbeddedReber(size=4, pairs=1)
    example = jax.tree.map(lambda a: jnp.asarray(a[0, 0]), task.examples)
    following, legal = example.targets
    assert task.test_set(jax.random.key(0), jnp.int32(0), 0).xs.shape[0] == 8
    z = jnp.where(legal, 1.0, -1.0)
    assert not task.judge(z, example).wrong
    assert task.judge(following - 0.5, example).wrong  # one of two is not enough
    after_the_end = jnp.where(example.scored[:, None], z, 0.0)
    assert not task.judge(after_the_end, example).wrong
    assert SYMBOLS[int(np.argmax(example.xs[0]))] == "B"


def test_cross_entropy_still_moves_an_output_that_squared_error_has_lost():
    squared = EmbeddedReber(size=4, pairs=1)
    example = jax.tree.map(lambda a: jnp.asarray(a[0, 0]), squared.examples)
    following, _ = example.targets
    scored = example.scored[:, None]
    lost = jnp.where(following == 1, -30.0, 30.0)
    by_squares = jax.grad(lambda z: squared.judge(z, example).loss)(lost)
    assert jnp.max(jnp.abs(by_squares)) < 1e-9
    crossed = EmbeddedReber(size=4, pairs=1, cross_entropy=True)
    assert (squared.unit, crossed.unit) == ("half squared error", "nats/string")
    by_nats = jax.grad(lambda z: crossed.judge(z, example).loss)(lost)
    wanted = jnp.where(scored, jax.nn.sigmoid(lost) - following, 0.0)
    np.testing.assert_allclose(by_nats, wanted, atol=1e-6)
    assert crossed.judge(lost, example).wrong == squared.judge(lost, example).wrong
    with pytest.raises(ValueError, match='"cross-entropy" is for reber, got order2'):
        LongLag(replace(PRESETS["tiny"][1], loss="cross-entropy"))


def test_two_sequences_end_as_they_began():
    firsts = set()
    for example in draw(TwoSequences(6), 40):
        inputs = np.argmax(example.xs, axis=-1)
        targets = np.argmax(example.targets, axis=-1)
        np.testing.assert_array_equal(inputs[1:], [0, 1, 2, 3, 4])
        np.testing.assert_array_equal(targets[:-1], inputs[1:])
        assert targets[-1] == inputs[0]
        firsts.add(int(inputs[0]))
    assert firsts == {5, 6}
    middles = {tuple(np.argmax(e.xs[1:], -1)) for e in draw(TwoSequences(6, True), 40)}
    assert len(middles) > 30


def test_experiment_2a_tests_both_sequences_and_2b_asks_for_the_last_symbol_alone():
    both = TwoSequences(6).test_set(jax.random.key(0), jnp.int32(0), 0)
    assert np.argmax(both.xs[:, 0], axis=-1).tolist() == [5, 6]
    assert np.all(both.scored)
    for example in draw(TwoSequences(6, True)):
        assert last(example) == 5
        assert np.argmax(example.targets[5]) == np.argmax(example.xs[0])
    many = TwoSequences(6, True).test_set(jax.random.key(0), jnp.int32(0), 30)
    assert len({tuple(np.argmax(xs[1:], axis=-1)) for xs in np.asarray(many.xs)}) > 20


def test_distractors_ask_once_after_the_end_symbol():
    task, gaps = Distractors(lag=5, symbols=7), []
    for example in draw(task):
        inputs, at = np.argmax(example.xs, axis=-1), last(example)
        assert inputs[0] == 7 and inputs[at] == 8 and np.all(inputs[2:at] < 7)
        assert inputs[1] - 9 == np.argmax(example.targets[at])
        gaps.append(at - 2 - 5)
    assert min(gaps) == 0 and 7 < np.mean(gaps) < 11  # geometric: 0.9 / 0.1


def test_noisy_sequences_tell_their_class_at_the_start():
    for example in draw(NoisySequences(20, 3), 50):
        target, expected = (leaf[last(example)] for leaf in example.targets)
        np.testing.assert_array_equal(example.xs[:3, 0], 1 if target == 1 else -1)
        assert expected == target and 19 <= last(example) <= 21
    noise = np.concatenate([e.xs[3:, 0] for e in draw(NoisySequences(20, 3))])
    assert np.var(noise) == pytest.approx(0.2, rel=0.1)
    both = list(draw(NoisySequences(20, 1, True, True)))
    targets, expected = (np.array([e.targets[k][0, 0] for e in both]) for k in (0, 1))
    assert set(expected.astype(float).round(3)) == {0.2, 0.8}
    assert np.var(targets - expected) == pytest.approx(0.1, rel=0.3)


@pytest.mark.parametrize("multiply", [False, True])
def test_arithmetic_is_of_the_two_marked_numbers(multiply):
    replaced = 0
    for example in draw(Arithmetic(20, multiply)):
        values, markers = example.xs.T
        at = last(example)
        assert 19 <= at <= 21 and markers[0] == -1 and markers[at] == -1
        marked = np.flatnonzero(markers[: at + 1] == 1)
        # The first step may be one of the two; its marker stays -1.
        chosen = list(values[marked]) + [1.0 if multiply else 0.0] * (2 - len(marked))
        replaced += len(marked) == 1
        assert 1 <= len(marked) <= 2 and marked[0] < 10 and np.all(marked < 10)
        wanted = np.prod(chosen) if multiply else 0.5 + np.sum(chosen) / 4
        np.testing.assert_allclose(example.targets[at, 0], wanted, rtol=1e-5)
    assert 0 < replaced < 80


@pytest.mark.parametrize("relevant", [2, 3])
def test_temporal_order_is_the_class(relevant):
    classes = set()
    for example in draw(TemporalOrder(relevant)):
        symbols, at = np.argmax(example.xs, axis=-1), last(example)
        assert symbols[0] == 6 and symbols[at] == 7 and 99 <= at <= 109
        places = np.flatnonzero(symbols[:at] < 2)
        starts = {2: [10, 50], 3: [10, 33, 66]}[relevant]
        assert np.all(places >= starts) and np.all(places <= np.add(starts, 10))
        which = np.argmax(example.targets[at])
        assert which == sum(int(symbols[p]) << k for k, p in enumerate(places))
        classes.add(int(which))
    assert len(classes) == 2**relevant


def test_the_tasks_of_bai_2018():
    for example in draw(BaiAdding(30), 20):
        values, marked = example.xs.T
        assert sorted(set(marked)) == [0, 1] and sum(marked) == 2
        np.testing.assert_allclose(example.targets[-1, 0], values @ marked, rtol=1e-5)
    task = BaiCopy(5)
    for example in draw(task, 5):
        symbols = example.xs[:10, 0]
        assert len(example.xs) == 25 and np.all((symbols >= 1) & (symbols <= 8))
        np.testing.assert_array_equal(example.xs[10:, 0], [0] * 4 + [9] * 11)
        np.testing.assert_array_equal(example.targets, [0] * 15 + list(symbols))
        # Who knows all but the symbols is at chance: 10 ln 8 / (T + 20).
        z = jnp.log(jnp.where(jnp.arange(10) % 9 == 0, 1e-9, 1 / 8) * jnp.ones((25, 1)))
        blank = jnp.log(jax.nn.one_hot(0, 10) + 1e-9)
        chance = task.judge(z.at[:15].set(blank), jax.tree.map(jnp.asarray, example))
        np.testing.assert_allclose(chance.loss, 10 * np.log(8) / 25, rtol=1e-4)


def test_a_sum_is_answered_linearly_and_noise_judged_by_the_published_bounds():
    example = next(iter(draw(Arithmetic(20), 1)))
    at, wanted = last(example), example.targets[0, 0]
    z = jnp.zeros((22, 1)).at[at].set(wanted + 0.03)
    result = Arithmetic(20).judge(z, jax.tree.map(jnp.asarray, example))
    np.testing.assert_allclose(result.error, 0.03, rtol=1e-4)
    np.testing.assert_allclose(result.loss, 0.5 * 0.03**2, rtol=1e-4)
    assert not result.wrong

    for noisy, bound in [(False, 0.2), (True, 0.1)]:
        task = NoisySequences(20, 3, noisy_targets=noisy)
        example = next(iter(draw(task, 1)))
        expected = example.targets[1][0, 0]
        inwards = 1 if expected < 0.5 else -1
        for off, wrong in [(bound - 0.01, False), (bound + 0.01, True)]:
            y = float(expected + inwards * off)
            z = jnp.full((22, 1), np.log(y / (1 - y)), jnp.float32)
            result = task.judge(z, jax.tree.map(jnp.asarray, example))
            assert bool(result.wrong) == wrong
            np.testing.assert_allclose(result.error, off, rtol=1e-3)


def test_a_logistic_answer_is_judged_by_its_worst_output_where_it_is_scored():
    task = TemporalOrder(2)
    example = next(iter(draw(task, 1)))
    at, which = last(example), np.argmax(example.targets[0])
    y = np.full(4, 0.1)
    y[which] = 0.75
    z = jnp.zeros((110, 4)).at[at].set(jnp.asarray(np.log(y / (1 - y)), jnp.float32))
    result = task.judge(z, jax.tree.map(jnp.asarray, example))
    np.testing.assert_allclose(result.loss, 0.5 * (3 * 0.01 + 0.0625), rtol=1e-4)
    np.testing.assert_allclose(result.error, (0.3 + 0.25) / 4, rtol=1e-4)
    assert not result.wrong
    assert task.judge(z.at[at, which].set(0.8), example).wrong  # y = 0.69


# Criteria.


def results(wrong, error):
    return Result(jnp.zeros(2), jnp.array(wrong), jnp.array(error))


def test_a_window_is_full_before_it_is_met_and_forgets_what_left_it():
    window = Window(3, error=0.15)
    recent = window.start(2)
    history = [([True, False], [0.1, 0.1]), *[([False, False], [0.1, 0.2])] * 3]
    met = []
    for n, result in enumerate(history):
        recent = window.after(recent, results(*result), jnp.int32(n))
        met.append(window.met(recent, n + 1).tolist())
    # The first trial loses its wrong answer at the fourth; the second one's errors grow
    # past the bound (0.1, 0.2, 0.2 has a mean of 0.167).
    assert met == [[False] * 2, [False] * 2, [False] * 2, [True, False]]
    assert window.needed(jnp.int32(4)) == 4
    assert Window(3, counted=False).needed(jnp.int32(4)) == 1
    assert Window(3, limit=2).met(
        window.start(2)._replace(
            wrong=jnp.array([[True, False, False], [True, True, False]])
        ),
        3,
    ).tolist() == [True, False]


def test_a_test_allows_fewer_than_its_limit():
    many = Result(
        jnp.zeros((3, 4)),
        jnp.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool),
        jnp.array([[0.1] * 4, [0.1] * 4, [0.3] * 4]),
    )
    assert Examined(4, error=0.2).met(many).tolist() == [True, False, False]
    assert Examined(4, limit=2).met(many).tolist() == [True, True, True]


# Networks and whole runs.


@pytest.mark.parametrize(
    "name, published",
    [
        ("reber-4x1-0.1", 264),
        ("reber-3x2-0.5", 276),
        ("2a", 10504),
        ("2c", 364),
        ("3a", 102),
        ("adding", 93),
        ("order2", 156),
        ("order3", 308),
    ],
)
def test_networks_have_the_published_number_of_weights(name, published):
    problem = LongLag(PRESETS[name][1])
    params, _ = jax.eval_shape(problem.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == published


@pytest.mark.parametrize("gradient", ["full", "truncated"])
def test_gradients_of_single_steps_add_up_to_that_of_the_sequence(gradient):
    task = EmbeddedReber(size=4, pairs=1)
    example = jax.tree.map(lambda a: jnp.asarray(a[0, 0]), task.examples)
    cell = LSTM1997(7, 4, block_size=2, biases="gates", init_range=1.0, gradient=gradient)
    network = Network(cell, 7, bias=False, init_range=1.0)
    weights = network.init(jax.random.key(0))

    def add(state, example):
        moment, total = state

        def loss(z):
            return task.judge(z[None], jax.tree.map(lambda a: a[None], example)).loss

        gradients, moment, z = realtime.gradient(network, weights, moment, example.xs, loss)
        return (moment, jax.tree.map(jnp.add, total, gradients)), z

    start = realtime.beginning(network, weights), jax.tree.map(jnp.zeros_like, weights)
    (_, total), zs = jax.jit(lambda: jax.lax.scan(add, start, example))()
    of_sequence = jax.jit(
        jax.grad(lambda weights: task.judge(network(weights, example.xs), example).loss)
    )(weights)
    np.testing.assert_allclose(zs, network(weights, example.xs), rtol=1e-4, atol=1e-6)
    for got, wanted in zip(
        jax.tree.leaves(total), jax.tree.leaves(of_sequence), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)


def test_weights_move_at_every_step_of_a_sequence():
    """A string by hand: a symbol is answered with what those before it taught."""
    tiny = replace(PRESETS["tiny"][1], updates="step", updates_per_step=1, trials=1)
    # The decay would show if weights moved after the end of the string as well.
    config = replace(
        tiny,
        problem="reber",
        hidden_size=2,
        learning_rate=0.5,
        weight_decay=0.01,
        weight_decay_of="all",
    )
    trials = make_trials(config)
    state, problem = trials.init(0), trials.problem
    weights = start = jax.tree.map(lambda a: jnp.array(a[0]), state.params)
    # The first string that is drawn, as the trials draw it.
    key = jax.random.fold_in(jax.random.fold_in(state.key, LEARN), 0)
    example = problem.task.draw(jax.random.split(key, 1)[0], jnp.int32(0))
    steps = int(np.sum(example.scored))
    assert steps < len(example.scored)

    @jax.jit
    def learn(weights, moment, now):
        def loss(z):
            return 0.5 * jnp.sum((jax.nn.sigmoid(z) - now.targets[0]) ** 2)

        by, moment, _ = realtime.gradient(problem.network, weights, moment, now.xs, loss)
        return jax.tree.map(lambda w, g: w - 0.5 * (g + 0.01 * w), weights, by), moment

    moment = realtime.beginning(problem.network, weights)
    for t in range(steps):
        now = jax.tree.map(lambda a, t=t: np.asarray(a)[t], example)
        weights, moment = learn(weights, moment, now)
    after, _ = trials.step(state, trials.batch(0))
    for got, wanted, old in zip(
        jax.tree.leaves(after.params),
        jax.tree.leaves(weights),
        jax.tree.leaves(start),
        strict=True,
    ):
        np.testing.assert_allclose(got[0], wanted, rtol=1e-3, atol=1e-6)
        assert not np.allclose(wanted, old)
    with pytest.raises(ValueError, match="no transformer, got 2 and lstm1997"):
        make_trials(replace(config, batch_size=2))
    with pytest.raises(ValueError, match="no transformer, got 1 and transformer"):
        make_trials(replace(config, cell="transformer"))


@pytest.mark.parametrize("updates", ["step", "sequence"])
def test_a_cell_is_added_after_so_many_updates(updates):
    tiny = replace(PRESETS["2a-sgd"][1], lag=5, trials=2, updates_per_step=2, cell_from=2)
    trials = make_trials(replace(tiny, updates=updates))

    def moved(state):
        """Whether each part of the weights differs after the step: the cell, the row of
        W that reads it, and the rows that read the inputs."""
        before = jax.tree.map(np.array, state.params)
        state, _ = trials.step(state, trials.batch(0))
        after = state.params
        parts = ((w.cell.w_x, w.w[:, :1], w.w[:, 1:]) for w in (before, after))
        return state, [not np.array_equal(a, b) for a, b in zip(*parts, strict=True)]

    state, without = moved(trials.init(0))
    assert without == [False, False, True]
    state, with_it = moved(state)
    assert with_it == [True, True, True]
    with pytest.raises(ValueError, match="no cell to add, got 2 updates"):
        make_trials(replace(tiny, updates="sequence", cell="transformer"))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"trials": 0}, "trials must be 1 or more, got 0"),
        ({"lag": 0}, "lag must be 1 or more, got 0"),
        ({"lag": 9}, "order2 needs a lag of 10 or more, got 9"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"batch_size": 8}, "counts single sequences, got a batch_size of 8"),
        ({"updates": "step", "schedule": "cosine"}, "have no schedule, got cosine"),
        ({"schedule": "plateau"}, "no learning rate in common"),
        ({"average": 0.9}, "average has no effect here, got 0.9"),
        ({"on_nan": "stop"}, "on_nan has no effect here, got stop"),
    ],
)
def test_options_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_trials(replace(PRESETS["tiny"][1], **changes))


def test_a_learning_rate_falls_to_the_last_step_and_not_before():
    config = replace(PRESETS["tiny"][1], schedule="cosine", steps=4, updates_per_step=5)
    with jax.numpy_dtype_promotion("standard"):  # Optax's cosine needs it
        trials = make_trials(config)
        state, rates = trials.init(0), []
        for step in range(4):
            before = np.array(state.params.w)
            state, metrics = trials.step(state, trials.batch(step))
            rates.append(float(metrics["learning_rate"]))
            assert not np.array_equal(before, state.params.w)
    np.testing.assert_allclose(rates, 0.25 * (1 + np.cos(np.pi * np.arange(4) / 4)))


def test_a_large_test_set_is_answered_in_parts(monkeypatch):
    sizes = []

    class Spied(Trials):
        def _examine(self, weights, examples):
            sizes.append(examples.scored.shape[1])
            return trials._examine(weights, examples)

    trials = make_trials(replace(PRESETS["tiny"][1], test_sequences=600))
    spied = Spied(trials.problem, trials.transform)
    got = spied.evaluate(spied.init(0), "test")
    assert sizes == [256, 256, 88]
    monkeypatch.setattr("experiments.long_lag.trials.AT_ONCE", 600)
    want = spied.evaluate(spied.init(0), "test")
    assert sizes[3:] == [600]
    assert got == pytest.approx(want, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2a", "2b"])
def test_the_first_symbol_is_learned_over_a_short_lag(name):
    config = replace(PRESETS[name][1], lag=10, trials=3, updates_per_step=1000)
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam needs it
        trials = make_trials(config)
        state, _ = trials.step(trials.init(0), trials.batch(0))
        before = trials.evaluate(state, "valid")["solved"]
        for step in range(1, 15):
            state, _ = trials.step(state, trials.batch(step))
    assert before == 0
    assert trials.evaluate(state, "valid")["solved"] == 1


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train", "tiny", *map(str, arguments)])
    main()


@pytest.mark.slow
def test_a_run_interrupted_and_gone_on_with_has_the_bits_of_a_whole_one(
    monkeypatch, tmp_path
):
    run(monkeypatch, "--run-dir", tmp_path / "whole")
    run(monkeypatch, "--run-dir", tmp_path / "parts", "--steps", 3)
    run(monkeypatch, "--run-dir", tmp_path / "parts", "--allow-change", "steps")
    whole, parts = (
        json.loads(RunDirectory(tmp_path / name).result.read_text())
        for name in ("whole", "parts")
    )
    assert whole["step"] == 6 and whole["valid_solved"] == 0
    assert whole["unit"] == "half squared error"
    assert whole["state_sha256"] == parts["state_sha256"]

    attending = "--cell", "transformer", "--layers", 1, "--run-dir", tmp_path / "attending"
    run(monkeypatch, *attending, "--steps", 1)
    run_dirs = tuple(tmp_path / name for name in ("whole", "attending"))
    draw_picture(run_dirs, tmp_path / "lag.png")
    assert (tmp_path / "lag.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="parts is a second run of lstm1997 at lag"):
        draw_picture((*run_dirs, tmp_path / "parts"), tmp_path / "lag.png")


def test_a_transformer_looks_back_only_and_tells_places_apart():
    network = TransformerNetwork(3, 2, 8, layers=2, heads=2)
    params = network.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (6, 4, 3))
    zs = network(params, xs)
    assert zs.shape == (6, 4, 2)
    np.testing.assert_allclose(network(params, xs[:4]), zs[:4], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(network(params, xs[:, 1]), zs[:, 1], rtol=1e-4, atol=1e-6)
    moved = network(params, xs.at[jnp.array([1, 3])].set(xs[jnp.array([3, 1])]))
    assert np.abs(moved[-1] - zs[-1]).min() > 1e-4
    for width, heads in ((7, 1), (8, 3), (8, 0)):
        message = f"even and a multiple of its heads, got {width} and {heads}"
        with pytest.raises(ValueError, match=message):
            TransformerNetwork(3, 2, width, layers=1, heads=heads)


def as_numbers(tree):
    """A copy, since a step takes the memory of the state before."""
    return jax.tree.map(np.array, tree)


def with_needed(state, needed):
    return state._replace(carry=state.carry._replace(needed=needed))


def test_a_trial_that_met_the_criterion_rests_and_the_others_go_on():
    trials = make_trials(PRESETS["tiny"][1])
    state = with_needed(trials.init(0), jnp.array([-1, 40, -1], jnp.int32))
    before = as_numbers(state.params)
    after, metrics = trials.step(state, trials.batch(0))
    assert metrics["solved"] == pytest.approx(1 / 3)
    for old, new in zip(
        jax.tree.leaves(before), jax.tree.leaves(after.params), strict=True
    ):
        np.testing.assert_array_equal(old[1], new[1])
        assert not np.array_equal(old[0], new[0]) and not np.array_equal(old[2], new[2])
    figures = trials.evaluate(after, "valid")
    assert figures["solved"] == pytest.approx(1 / 3) and figures["sequences"] == 40

    rested = with_needed(after, jnp.full(3, 7, jnp.int32))
    at, before = int(rested.step), as_numbers((rested.params, rested.carry))
    after, _ = trials.step(rested, trials.batch(at))
    assert int(after.step) == at + 1
    jax.tree.map(np.testing.assert_array_equal, before, (after.params, after.carry))


def test_the_truncated_gradient_is_that_of_the_paper():
    """Appendix A.1 of 1997: only the carousel takes an error back, so that what a weight
    of a gate or cell has done to c adds up over time and reaches y at the end at once."""
    cell = LSTM1997(2, 1, gradient="truncated")
    params = jax.tree.map(lambda a: a * 5, cell.init(jax.random.key(0)))
    xs = jax.random.normal(jax.random.key(1), (4, 2))

    def last(params):
        return unroll(cell, params, xs)[1][-1, 0]

    got = jax.jit(jax.grad(last))(params)
    full = LSTM1997(2, 1)
    np.testing.assert_allclose(last(params), unroll(full, params, xs)[1][-1, 0])

    passed = walk(cell, params, xs)
    inputs = [xs, passed.entering.gates, passed.entering.h]
    z = xs @ params.w_x + jnp.concatenate(inputs[1:], axis=-1) @ params.w_h
    i, o, g = jax.nn.sigmoid(z[:, 0]), jax.nn.sigmoid(z[:, 1]), 2 * jnp.tanh(z[:, 2] / 2)
    squashed = jnp.tanh(passed.leaving.c[-1, 0] / 2)
    to_c = o[-1] * (1 - squashed**2) / 2
    of_net = jnp.stack([to_c * g * i * (1 - i), jnp.zeros(4), to_c * i * (1 - g**2 / 4)], 1)
    of_net = of_net.at[-1, 1].set(squashed * o[-1] * (1 - o[-1]))
    np.testing.assert_allclose(got.w_x, xs.T @ of_net, rtol=1e-4, atol=1e-7)
    sources = jnp.concatenate(inputs[1:], axis=-1)
    np.testing.assert_allclose(got.w_h, sources.T @ of_net, rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match='gradient of "full" or "truncated"'):
        LSTM1997(2, 1, gradient="cut")  # pyright: ignore[reportArgumentType]

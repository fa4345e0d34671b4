"""From a config to trials that learn side by side, and what they have come to."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxrnn
from experiments.long_lag.config import Config
from experiments.long_lag.criteria import Criterion, Examined, Window
from experiments.long_lag.learn import make_learn
from experiments.long_lag.network import Network
from experiments.long_lag.problems import (
    Arithmetic,
    BaiAdding,
    BaiCopy,
    Distractors,
    EmbeddedReber,
    Example,
    NoisySequences,
    Problem,
    Result,
    TemporalOrder,
    TwoSequences,
)
from experiments.long_lag.transformer import TransformerNetwork
from jaxrnn.strategies.select import select
from jaxrnn.training.evaluation import evenly, share_of, watched
from jaxrnn.training.optimiser import Optimiser
from jaxrnn.training.state import TrainState
from jaxrnn.training.step import TrainStep
from jaxrnn.training.task import Evaluate, Task

# The streams of random numbers of a run's key.
START, LEARN, EXAMINE, TEST = range(4)

Model = Network | TransformerNetwork
# draw(key, count) -> test sequences of each trial's own, leaves [trials, count, T, ...]
Draw = Callable[[Array, int], Example]
# examine(weights, examples) -> how each trial answers its own, leaves [trials, count]
Examine = Callable[[Any, Example], Result]

AT_ONCE = 256  # test sequences of each trial: a Transformer takes T^2 of memory for each


class Learners(NamedTuple):
    """All trials; the first axis of every leaf is theirs."""

    weights: Any  # NetworkParams, or those of a TransformerNetwork
    needed: Array  # [trials] int32  sequences until the criterion was met, -1 before


def make_problem(config: Config) -> tuple[Problem, Criterion | None]:
    """The problem and its published criterion; the two of Bai et al. have none."""
    lag, name = config.lag, config.problem
    in_a_row = Window(10_000, counted=False)
    match name:
        case "reber":
            crossed = config.loss == "cross-entropy"
            return EmbeddedReber(config.seed, cross_entropy=crossed), Examined(512)
        case "2a":
            return TwoSequences(lag), Examined(2)
        case "2b":
            return TwoSequences(lag, random=True), in_a_row
        case "2c":
            return Distractors(lag, config.symbols), in_a_row
        case "3a":
            return NoisySequences(lag, config.informative), Examined(256, error=0.01)
        case "3b":
            noisy = NoisySequences(lag, config.informative, noisy_inputs=True)
            return noisy, Examined(256, limit=6, error=0.04)
        case "3c":
            noisy = NoisySequences(lag, config.informative, True, noisy_targets=True)
            return noisy, Examined(256, error=0.015)
        case "adding":
            return Arithmetic(lag), Window(2000, error=0.01)
        case "multiplication":
            return Arithmetic(lag, multiply=True), Window(2000, limit=config.wrong)
        case "order2":
            return TemporalOrder(2, lag), Window(2000, error=0.1)
        case "order3":
            return TemporalOrder(3, lag), Window(2000, error=0.1)
        case "bai-adding":
            return BaiAdding(lag), None
        case "bai-copy":
            return BaiCopy(lag), None


def make_network(config: Config, problem: Problem) -> Model:
    """Raises ValueError if the sizes or biases do not fit."""
    if config.cell == "transformer":
        return TransformerNetwork(
            problem.input_size,
            problem.output_size,
            config.hidden_size,
            config.layers,
            config.heads,
        )
    sizes = problem.input_size, config.hidden_size
    match config.cell:
        case "lstm1997":
            cell = jaxrnn.LSTM1997(
                *sizes,
                block_size=config.block_size,
                biases=config.biases,
                input_bias=config.input_bias or 0.0,
                output_bias=config.output_bias or 0.0,
                init_range=config.init_range,
                input_activation=config.input_activation,
                output_activation=config.output_activation,
                gradient=config.gradient,
            )
        case "carousel":
            cell = jaxrnn.Carousel(*sizes, init_range=config.init_range)
        case "lstm":
            cell = jaxrnn.LSTM(*sizes)
        case "gru":
            cell = jaxrnn.GRU(*sizes)
        case "elman":
            cell = jaxrnn.Elman(*sizes)
        case "mingru":
            cell = jaxrnn.MinGRU(*sizes)
    return Network(
        cell,
        problem.output_size,
        sees_inputs=isinstance(problem, TwoSequences),
        bias=config.readout_bias,
        init_range=config.init_range,
    )


def make_task(config: Config) -> Task:
    """Learning with `trials` networks at once; raises ValueError if something is off."""
    config.check()
    problem, criterion = make_problem(config)
    network = make_network(config, problem)
    optimiser = config.make_optimiser(config.updates_per_step)
    keys = jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed), START), config.trials
    )
    weights: Any = jax.vmap(network.init)(keys)
    recent = ()
    if isinstance(criterion, Window):
        recent = criterion.start(config.trials)
    state = TrainState.create(weights, optimiser, recent, config.seed)._replace(
        params=Learners(weights, jnp.full(config.trials, -1, jnp.int32)),
        opt_state=jax.vmap(optimiser.transform.init)(weights),
    )
    draw, examine = make_draw(problem, config.trials), make_examine(network, problem)
    test = make_test(config, draw, examine)
    return Task(
        state=state,
        train_step=make_train_step(
            config, network, problem, criterion, optimiser, draw, examine
        ),
        batch=lambda step: (),  # sequences are drawn where they are learned from
        evaluate=test if criterion is None else evaluate,
        test=test,
        unit=problem.unit,
        tokens_per_step=config.trials * config.updates_per_step * config.batch_size,
    )


def make_train_step(
    config: Config,
    network: Model,
    problem: Problem,
    criterion: Criterion | None,
    optimiser: Optimiser,
    draw: Draw,
    examine: Examine,
) -> TrainStep:
    """Returns the jitted `step(state, batch) -> (state, metrics)`: `updates_per_step`
    updates of every trial that has not yet met the criterion. Once all have, it does
    nothing but count."""
    trials = jnp.arange(config.trials)
    learn = make_learn(config, network, problem, optimiser)

    def update(state: TrainState, n: Array) -> tuple[TrainState, Result]:
        key = jax.random.fold_in(jax.random.fold_in(state.key, LEARN), n)
        keys = jax.random.split(key, config.trials)
        weights, opt_state, results = jax.vmap(learn, in_axes=(0, 0, 0, 0, None))(
            state.params.weights, state.opt_state, keys, trials, n
        )
        # A trial whose numbers are no longer finite has failed, and stays where it is.
        moves = (state.params.needed < 0) & jnp.isfinite(results.loss)
        weights = select(moves, weights, state.params.weights)
        opt_state = select(moves, opt_state, state.opt_state)
        state = state._replace(
            params=state.params._replace(weights=weights), opt_state=opt_state
        )
        if isinstance(criterion, Window):
            recent = criterion.after(state.carry, results, n)
            met = criterion.met(recent, n + 1)
            state = _solved(state, met, criterion.needed(n + 1))._replace(carry=recent)
        return state, results

    def learn_on(state: TrainState) -> tuple[TrainState, Result]:
        first = state.step * config.updates_per_step
        state, results = jax.lax.scan(
            update, state, first + jnp.arange(config.updates_per_step)
        )
        if isinstance(criterion, Examined):
            # Always the same sequences: on fresh ones a lucky draw would end a trial early.
            key = jax.random.fold_in(state.key, EXAMINE)
            examples = draw(key, criterion.count)
            met = criterion.met(examine(state.params.weights, examples))
            state = _solved(state, met, first + config.updates_per_step)
        return state, jax.tree.map(lambda a: jnp.mean(a, axis=0), results)

    def rest(state: TrainState) -> tuple[TrainState, Result]:
        _, results = jax.eval_shape(learn_on, state)
        return state, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), results)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        with jax.numpy_dtype_promotion("standard"):  # which Optax counts on
            rate = jnp.asarray(optimiser.schedule(state.step))
        learning = jnp.any(state.params.needed < 0)
        state, results = jax.lax.cond(learning, learn_on, rest, state)
        unsolved = state.params.needed < 0
        state = state._replace(step=state.step + 1)
        return state, {
            "loss": jnp.mean(results.loss),
            "wrong": jnp.mean(results.wrong),
            "solved": jnp.mean(~unsolved, dtype=jnp.float32),
            "learning_rate": rate,
        }

    return jax.jit(step, donate_argnums=0)


def _solved(state: TrainState, met: Array, needed: Array) -> TrainState:
    """`needed` written down for the trials that met the criterion just now."""
    before = state.params.needed
    after = jnp.where((before < 0) & met, needed.astype(before.dtype), before)
    return state._replace(params=state.params._replace(needed=after))


def make_draw(problem: Problem, trials: int) -> Draw:
    """Sequences that are the same for the same key."""

    @partial(jax.jit, static_argnums=1)
    def draw(key: Array, count: int) -> Example:
        return jax.vmap(lambda key, trial: problem.test_set(key, trial, count))(
            jax.random.split(key, trials), jnp.arange(trials)
        )

    return draw


def make_examine(network: Model, problem: Problem) -> Examine:
    def one(weights: Any, examples: Example) -> Result:
        zs = network(weights, jnp.moveaxis(examples.xs, 0, 1))
        return jax.vmap(problem.judge, in_axes=(1, 0))(zs, examples)

    return jax.jit(jax.vmap(one))


def evaluate(learners: Learners) -> dict[str, float]:
    """The share of the trials that have not met the criterion as the loss, and how many
    sequences the others needed."""
    needed = np.asarray(learners.needed)
    solved = needed[needed >= 0]
    figures = {"loss": float(np.mean(needed < 0)), "solved": len(solved) / len(needed)}
    if len(solved):
        figures["sequences"] = float(np.mean(solved))
        figures["fewest"], figures["most"] = float(min(solved)), float(max(solved))
    return figures


def make_test(config: Config, draw: Draw, examine: Examine) -> Evaluate:
    """Returns `test(learners)`: the loss, the share of wrong answers and the mean error on
    the test set, of the trials that met the criterion, or of all if none did."""
    key = jax.random.fold_in(jax.random.key(config.seed), TEST)

    def test(learners: Learners) -> dict[str, float]:
        examples = draw(key, config.test_sequences)

        def answers(first: int) -> Result:
            part = jax.tree.map(lambda leaf: leaf[:, first : first + AT_ONCE], examples)
            # On the host: no part is begun before the one before it is done.
            return jax.device_get(examine(learners.weights, part))

        there = examples.scored.shape[1]
        firsts = evenly(range(0, there, AT_ONCE), config.eval_batches)
        parts = [answers(first) for first in watched(firsts, len(firsts))]
        results = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)
        solved = np.asarray(learners.needed) >= 0
        among = solved if np.any(solved) else np.ones_like(solved)
        figures = {
            name: float(np.mean(values[among]))
            for name, values in results._asdict().items()
        }
        return figures | share_of(results.loss.shape[1], there)

    return test

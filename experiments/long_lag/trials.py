"""Trials that learn side by side, each until it has met the criterion."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.strategies.select import select
from jaxrnn.training.evaluation import evenly, share_of, watched
from jaxrnn.training.leaves import Leaf
from jaxrnn.training.products import multiplying
from jaxrnn.training.state import TrainState
from jaxrnn.training.trainer import Trainer

from .config import Config
from .criteria import Examined, Window
from .learn import make_learn
from .problem import LongLag
from .tasks import Example, Result

# The streams of random numbers of a run's key.
START, LEARN, EXAMINE, TEST = range(4)

AT_ONCE = 256  # test sequences of each trial: a Transformer takes T^2 of memory for each


class Standing(NamedTuple):
    """How far the trials are: the carry of their training."""

    needed: Array  # [trials] int32  sequences until the criterion was met, -1 before
    recent: Any  # what the criterion remembers of them


@dataclass(frozen=True, eq=False)
class Trials(Trainer):
    """Trains all trials of a problem at once; the first axis of their leaves is theirs.

    A step is `updates_per_step` updates of every trial that has not yet met the criterion.
    Once all have, it does nothing but count.
    """

    problem: LongLag

    def measures(self, split: str) -> bool:
        return True

    def evaluate(self, state: TrainState, split: str) -> dict[str, float]:
        """How many trials met the criterion, or what those that did make of test sequences:
        where there is no criterion, these are drawn for "valid" too."""
        if split == "valid" and self.problem.criterion is not None:
            return success(np.asarray(state.carry.needed))
        return self._test(state)

    @property
    def fingerprint(self) -> dict[str, Any]:
        # As former versions told it, which had the counts among the params.
        own = super().fingerprint
        return own | {"dtypes": sorted({*own["dtypes"], "int32"})}

    def upgrade(self, leaves: dict[str, Leaf]) -> dict[str, Leaf]:
        moves = {"params/weights/": "params/", "params/needed": "carry/needed"}
        moves |= {f"carry/{name}": f"carry/recent/{name}" for name in ("wrong", "error")}

        def moved(path: str) -> str:
            for former, now in moves.items():
                if path.startswith(former):
                    return now + path.removeprefix(former)
            return path

        return super().upgrade({moved(path): leaf for path, leaf in leaves.items()})

    def _create(self, key: Array, params: Any = None) -> TrainState:
        trials = self.problem.rows
        keys = jax.random.split(jax.random.fold_in(key, START), trials)
        drawn, _ = jax.vmap(self.problem.init)(keys)
        weights = drawn if params is None else params
        criterion = self.problem.criterion
        standing = Standing(
            needed=jnp.full(trials, -1, jnp.int32),
            recent=criterion.start(trials) if isinstance(criterion, Window) else (),
        )
        return self._begin(key, weights, jax.vmap(self.transform.init)(weights), standing)

    def _update(self, state: TrainState, batch: Array) -> tuple[TrainState, dict]:
        learning = jnp.any(state.carry.needed < 0)
        state, results = jax.lax.cond(learning, self._learn_on, self._rest, state, batch)
        metrics = {
            "loss": jnp.mean(results.loss),
            "wrong": jnp.mean(results.wrong),
            "solved": jnp.mean(state.carry.needed >= 0, dtype=jnp.float32),
        }
        if self.schedule is not None:
            with jax.numpy_dtype_promotion("standard"):  # which Optax counts on
                metrics["learning_rate"] = jnp.asarray(self.schedule(state.step))
        return state._replace(step=state.step + 1), metrics

    def _learn_on(self, state: TrainState, trials: Array) -> tuple[TrainState, Result]:
        updates, criterion = self.problem.config.updates_per_step, self.problem.criterion
        learn = jax.vmap(
            make_learn(self.problem, self.transform), in_axes=(0, 0, 0, 0, None)
        )

        def update(state: TrainState, n: Array) -> tuple[TrainState, Result]:
            key = jax.random.fold_in(jax.random.fold_in(state.key, LEARN), n)
            keys = jax.random.split(key, len(trials))
            before = state.params, state.opt_state
            *learned, results = learn(*before, keys, trials, n)
            # A trial whose numbers are no longer finite has failed, and stays as it is.
            moves = (state.carry.needed < 0) & jnp.isfinite(results.loss)
            params, opt_state = select(moves, tuple(learned), before)
            state = state._replace(params=params, opt_state=opt_state)
            if isinstance(criterion, Window):
                recent = criterion.after(state.carry.recent, results, n)
                state = state._replace(carry=state.carry._replace(recent=recent))
                met = criterion.met(recent, n + 1)
                state = solved(state, met, criterion.needed(n + 1))
            return state, results

        first = state.step * updates
        state, results = jax.lax.scan(update, state, first + jnp.arange(updates))
        if isinstance(criterion, Examined):
            # Always the same sequences: on fresh ones a lucky draw would end a trial early.
            key = jax.random.fold_in(state.key, EXAMINE)
            examples = self._draw(key, criterion.count)
            met = criterion.met(self._examine(state.params, examples))
            state = solved(state, met, first + updates)
        return state, jax.tree.map(lambda a: jnp.mean(a, axis=0), results)

    def _rest(self, state: TrainState, trials: Array) -> tuple[TrainState, Result]:
        _, results = jax.eval_shape(self._learn_on, state, trials)
        return state, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), results)

    def _test(self, state: TrainState) -> dict[str, float]:
        """The loss, the share of wrong answers and the mean error on test sequences, of the
        trials that met the criterion, or of all if none did."""
        config = self.problem.config
        key = jax.random.fold_in(jax.random.key(config.seed), TEST)
        examples = self._draw(key, config.test_sequences)

        def answers(first: int) -> Result:
            part = jax.tree.map(lambda leaf: leaf[:, first : first + AT_ONCE], examples)
            # On the host: no part is begun before the one before it is done.
            return jax.device_get(self._examine(state.params, part))

        there = range(0, config.test_sequences, AT_ONCE)
        firsts = evenly(there, self.eval_batches)
        parts = [answers(first) for first in watched(firsts, len(firsts))]
        results = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)
        met = np.asarray(state.carry.needed) >= 0
        among = met if np.any(met) else np.ones_like(met)
        figures = {
            name: float(np.mean(values[among]))
            for name, values in results._asdict().items()
        }
        return figures | share_of(len(firsts), len(there))

    @cached_property
    def _draw(self) -> Any:
        """draw(key, count) -> sequences of each trial's own, the same for the same key,
        leaves [trials, count, T, ...]."""

        @partial(jax.jit, static_argnums=1)
        def draw(key: Array, count: int) -> Example:
            def one(key: Array, trial: Array) -> Example:
                return self.problem.task.test_set(key, trial, count)

            trials = jnp.arange(self.problem.rows)
            return jax.vmap(one)(jax.random.split(key, len(trials)), trials)

        return draw

    @cached_property
    def _examine(self) -> Any:
        """examine(weights, examples) -> how each trial answers its own, leaves
        [trials, count]."""

        def one(weights: Any, examples: Example) -> Result:
            zs = self.problem.network(weights, jnp.moveaxis(examples.xs, 0, 1))
            return jax.vmap(self.problem.task.judge, in_axes=(1, 0))(zs, examples)

        return jax.jit(multiplying(self.matmul_precision, jax.vmap(one)))


def make_trials(config: Config) -> Trials:
    """Raises ValueError if something is off."""
    return Trials(
        LongLag(config),
        *config.make_optimiser(config.updates_per_step),
        eval_batches=config.eval_batches,
        matmul_precision=config.matmul_precision,
    )


def solved(state: TrainState, met: Array, needed: Array) -> TrainState:
    """`needed` written down for the trials that met the criterion just now."""
    before = state.carry.needed
    after = jnp.where((before < 0) & met, needed.astype(before.dtype), before)
    return state._replace(carry=state.carry._replace(needed=after))


def success(needed: np.ndarray) -> dict[str, float]:
    """The share of the trials that have not met the criterion as the loss, and how many
    sequences the others needed."""
    met = needed[needed >= 0]
    figures = {"loss": float(np.mean(needed < 0)), "solved": len(met) / len(needed)}
    if len(met):
        figures["sequences"] = float(np.mean(met))
        figures["fewest"], figures["most"] = float(min(met)), float(max(met))
    return figures

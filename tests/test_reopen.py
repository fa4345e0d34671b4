"""A run opened again to be used: its parameters are all that is read."""

from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.long_lag.config import PRESETS
from experiments.long_lag.run import load
from experiments.long_lag.trials import make_trials
from jaxrnn.training.leaves import Leaf
from jaxrnn.training.optimiser import make_plateau
from jaxrnn.training.problem import Problem
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.options import Options
from jaxrnn.training.run.reopen import best_params, newest_state
from jaxrnn.training.state import TrainState, upgrade
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.trainer import Trainer


class Begun(Problem):
    """Parameters that are all `value` before they learn anything."""

    rows = 1

    def __init__(self, value: float) -> None:
        self.value = value

    def init(self, key):
        value = self.value
        return {"w": jnp.full((2, 3), value), "layers": (jnp.full(3, value),)}, ()

    def loss(self, params, carry, batch, key):
        raise NotImplementedError("it learns nothing")

    batch = loss


def make_trainer(
    value: float, transform: optax.GradientTransformation, **options
) -> Trainer:
    return Trainer(Begun(value), transform, **options)


def make_state(*arguments, **options) -> TrainState:
    return make_trainer(*arguments, **options).init(0)


def save(run_dir, states):
    with CheckpointStore(run_dir) as store:
        for step, (state, loss) in enumerate(states, 1):
            store.save(step, state, loss=loss)


def foreign(state: TrainState) -> TrainState:
    """The state as another mode of JAX, another kind of key and more devices have it."""
    return state._replace(
        step=np.int64(3),
        key=jax.random.key(0, impl="rbg"),
        evaluations=state.evaluations._replace(best_loss=np.float64(0.5)),
        carry={"h": jnp.zeros((8, 4), jnp.bfloat16)},
    )


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_parameters_are_used_whatever_else_the_run_was_trained_with(tmp_path, average):
    adam = optax.adam(0.1)
    states = [make_state(value, adam, average=average) for value in (1.0, 2.0, 3.0)]
    like = make_state(0.0, optax.sgd(0.1, momentum=0.9)).params
    options = Options(average=average)
    if average:
        # The averages are what was measured, and all that is used.
        states = [state._replace(params={"w": jnp.zeros(7)}) for state in states]
    save(tmp_path, zip(map(foreign, states), (2.0, 1.0, 1.5), strict=True))
    params = best_params(tmp_path, options, like)
    assert jax.tree.structure(params) == jax.tree.structure(like)
    assert all((leaf == 2.0).all() for leaf in jax.tree.leaves(params))


def test_before_the_first_evaluation_the_newest_parameters_are_used(tmp_path):
    like, options = make_state(0.0, optax.sgd(0.1)).params, Options()
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        best_params(tmp_path, options, like)
    save(tmp_path, [(make_state(value, optax.sgd(0.1)), None) for value in (1.0, 2.0)])
    assert (best_params(tmp_path, options, like)["w"] == 2.0).all()
    other = {"w": jnp.zeros((2, 4))}
    with pytest.raises(ValueError, match=r"params/w was saved as float32\[2, 3\] and"):
        best_params(tmp_path, options, other)


def as_formerly(state: TrainState) -> dict:
    """The state as the first version had it."""
    former = state._asdict() | state.evaluations._asdict()
    for name in ("evaluations", "skipped", "bad_in_row"):
        del former[name]
    return former


def test_a_state_of_an_older_version_is_opened_in_every_way(tmp_path):
    plateau = make_plateau(0.5, 2)
    trainer = make_trainer(0.0, optax.sgd(0.1), plateau=plateau)
    state = make_state(1.0, optax.sgd(0.1), plateau=plateau)
    evaluations = state.evaluations._replace(
        best_loss=jnp.float32(0.25),
        best_step=jnp.int32(4),
        plateau=state.evaluations.plateau._replace(scale=jnp.float32(0.5)),
    )
    older = as_formerly(state._replace(evaluations=evaluations))
    for loss in (None, 1.0):
        save(tmp_path, [(older, loss)])
        used = best_params(tmp_path, Options(), trainer.like.params)
        assert (used["w"] == 1.0).all()
        assert (newest_state(tmp_path, trainer).params["w"] == 1.0).all()
    store = CheckpointStore(tmp_path)
    for restore in (store.restore, store.restore_best, store.restore_lasting):
        restored = restore(trainer.like, upgrade=trainer.upgrade)
        assert restored is not None
        assert restored.state.skipped == restored.state.bad_in_row == 0
        found = restored.state.evaluations
        assert (found.best_loss, found.best_step, found.plateau.scale) == (0.25, 4, 0.5)


def leaf(number: int) -> Leaf:
    return Leaf("int32", np.array(number, np.int32))


def test_leaves_of_every_older_layout_become_those_of_this_one():
    older = {"step": leaf(1), "best_loss": leaf(2), "best_step": leaf(3)}
    older |= {"plateau/scale": leaf(4), "params/best_loss": leaf(5), "skipped": leaf(6)}
    now = {
        "step": leaf(1),
        "evaluations/best_loss": leaf(2),
        "evaluations/best_step": leaf(3),
        "evaluations/plateau/scale": leaf(4),
        "params/best_loss": leaf(5),
        "skipped": leaf(6),
        "bad_in_row": leaf(0),
    }
    assert upgrade(older) == upgrade(now) == now


def test_trials_of_an_older_layout_become_those_of_this_one():
    """Which counted what each trial needed among its parameters."""
    trials = make_trials(PRESETS["tiny"][1])
    older = {"params/weights/cell/w_x": leaf(1), "params/needed": leaf(2)}
    older |= {"carry/wrong": leaf(3), "carry/error": leaf(4), "best_loss": leaf(5)}
    older |= {"opt_state/0/mu/cell/w_x": leaf(6), "skipped": leaf(0)}
    now = {
        "params/cell/w_x": leaf(1),
        "carry/needed": leaf(2),
        "carry/recent/wrong": leaf(3),
        "carry/recent/error": leaf(4),
        "evaluations/best_loss": leaf(5),
        "opt_state/0/mu/cell/w_x": leaf(6),
        "skipped": leaf(0),
        "bad_in_row": leaf(0),
    }
    assert trials.upgrade(older) == trials.upgrade(now) == now


def test_going_on_in_another_mode_of_jax_would_change_the_bits():
    trainer = make_trainer(1.0, optax.sgd(0.1))
    assert trainer.fingerprint["enable_x64"] is False
    with jax.enable_x64(True):
        assert trainer.fingerprint["enable_x64"] is True


def test_the_trials_of_a_run_over_long_lags_are_used_whatever_its_key_was(tmp_path):
    config = PRESETS["tiny"][1]
    state = make_trials(config).init(0)
    needed = state.carry.needed + 7
    RunDirectory(tmp_path).enter(asdict(config))
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        load(tmp_path)
    learned = foreign(state)._replace(carry=state.carry._replace(needed=needed))
    save(tmp_path, [(learned, None)])
    trained = load(tmp_path)
    np.testing.assert_array_equal(trained.needed, needed)
    jax.tree.map(np.testing.assert_array_equal, trained.weights, state.params)
    assert trained.config == replace(config, run_dir=tmp_path)

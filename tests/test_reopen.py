"""A run opened again to be used: its parameters are all that is read."""

from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.long_lag.config import PRESETS
from experiments.long_lag.run import load
from experiments.long_lag.task import make_task
from jaxrnn.training.optimiser import Optimiser
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.reopen import best_params, best_state
from jaxrnn.training.run.run import state_fingerprint
from jaxrnn.training.state import LATER_LEAVES, TrainState
from jaxrnn.training.store.checkpoint import CheckpointStore


def make_state(
    value: float, transform: optax.GradientTransformation, average: bool = False
) -> TrainState:
    optimiser = Optimiser(transform, lambda step: 0.1)
    params = {"w": jnp.full((2, 3), value), "layers": (jnp.full(3, value),)}
    return TrainState.create(params, optimiser, (), seed=0, average=average)


def save(run_dir, states):
    with CheckpointStore(run_dir) as store:
        for step, (state, loss) in enumerate(states, 1):
            store.save(step, state, loss=loss)


def foreign(state: TrainState) -> TrainState:
    """The state as another mode of JAX, another kind of key and more devices have it."""
    return state._replace(
        step=np.int64(3),
        key=jax.random.key(0, impl="rbg"),
        best_loss=np.float64(0.5),
        carry={"h": jnp.zeros((8, 4), jnp.bfloat16)},
    )


@pytest.mark.parametrize("average", [False, True])
def test_parameters_are_used_whatever_else_the_run_was_trained_with(tmp_path, average):
    states = [make_state(value, optax.adam(0.1), average) for value in (1.0, 2.0, 3.0)]
    like = make_state(0.0, optax.sgd(0.1, momentum=0.9), average)
    if average:
        # The averages are what was measured, and all that is used.
        states = [state._replace(params={"w": jnp.zeros(7)}) for state in states]
    save(tmp_path, zip(map(foreign, states), (2.0, 1.0, 1.5), strict=True))
    params = best_params(tmp_path, like)
    assert jax.tree.structure(params) == jax.tree.structure(like.params)
    assert all((leaf == 2.0).all() for leaf in jax.tree.leaves(params))


def test_before_the_first_evaluation_the_newest_parameters_are_used(tmp_path):
    like = make_state(0.0, optax.sgd(0.1))
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        best_params(tmp_path, like)
    save(tmp_path, [(make_state(value, optax.sgd(0.1)), None) for value in (1.0, 2.0)])
    assert (best_params(tmp_path, like)["w"] == 2.0).all()
    other = like._replace(params={"w": jnp.zeros((2, 4))})
    with pytest.raises(ValueError, match=r"params/w was saved as float32\[2, 3\] and"):
        best_params(tmp_path, other)


def test_a_state_of_an_older_version_is_opened_in_every_way(tmp_path):
    like = make_state(0.0, optax.sgd(0.1))
    older = make_state(1.0, optax.sgd(0.1))._asdict()
    for name in LATER_LEAVES:
        del older[name]
    save(tmp_path, [(older, None)])
    assert (best_state(tmp_path, like).params["w"] == 1.0).all()
    save(tmp_path, [(older, 1.0)])
    assert (best_state(tmp_path, like).params["w"] == 1.0).all()
    store = CheckpointStore(tmp_path)
    for restore in (store.restore, store.restore_best, store.restore_lasting):
        restored = restore(like, defaults=LATER_LEAVES)
        assert restored is not None and restored.state.skipped == 0


def test_going_on_in_another_mode_of_jax_would_change_the_bits():
    state = make_state(1.0, optax.sgd(0.1))
    assert state_fingerprint(state)["enable_x64"] is False
    with jax.enable_x64(True):
        assert state_fingerprint(state)["enable_x64"] is True


def test_the_trials_of_a_run_over_long_lags_are_used_whatever_its_key_was(tmp_path):
    config = PRESETS["tiny"][1]
    state = make_task(config).state
    learned = state.params._replace(needed=state.params.needed + 7)
    RunDirectory(tmp_path).enter(asdict(config))
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        load(tmp_path)
    save(tmp_path, [(foreign(state)._replace(params=learned), None)])
    trained = load(tmp_path)
    np.testing.assert_array_equal(trained.learners.needed, learned.needed)
    assert trained.config == replace(config, run_dir=tmp_path)

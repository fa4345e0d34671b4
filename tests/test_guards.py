"""What keeps bad numbers and changed worlds out of a run."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrnn.training.leaves import Leaf
from jaxrnn.training.optimiser import Optimiser, make_plateau
from jaxrnn.training.problem import Problem
from jaxrnn.training.run.directory import RunDirectory
from jaxrnn.training.run.loop import Plan
from jaxrnn.training.run.options import Options
from jaxrnn.training.run.skips import Skips
from jaxrnn.training.store.checkpoint import CheckpointStore
from jaxrnn.training.store.digest import digest_tree
from jaxrnn.training.trainer import Trainer

OPTIMISER = Optimiser(optax.adam(0.1), optax.constant_schedule(0.1))


@pytest.fixture(autouse=True)
def optax_may_promote():
    with jax.numpy_dtype_promotion("standard"):
        yield


class Poisonable(Problem):
    """The value of its loss, its gradient and its carry are poisoned one by one."""

    rows = 1

    def init(self, key):
        return jnp.array([1.0, 2.0]), jnp.zeros(1)

    def loss(self, params, carry, batch, key):
        value, slope, next_carry = batch
        return jnp.sum(params * slope) + value, carry + next_carry, {}

    def batch(self, step, rows):
        raise NotImplementedError("its batches are told by hand")


CLEAN = (jnp.float32(1), jnp.array([0.5, -0.25]), jnp.float32(1))
POISONED = {
    "loss": (jnp.float32(jnp.nan), *CLEAN[1:]),
    "gradient": (CLEAN[0], jnp.array([0.5, jnp.inf]), CLEAN[2]),
    "carry": (*CLEAN[:2], jnp.float32(jnp.nan)),
}


def copy(state):
    return jax.tree.map(jnp.copy, state)


TRAINER = Trainer(Poisonable(), *OPTIMISER, halt_after=2, average=0.9)


@pytest.mark.parametrize("poison", POISONED)
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(poison):
    before, _ = TRAINER.step(TRAINER.init(0), CLEAN)
    after, metrics = TRAINER.step(copy(before), POISONED[poison])
    assert not metrics["finite"]
    assert (int(after.step), int(after.skipped), int(after.bad_in_row)) == (2, 1, 1)
    for name in ("params", "opt_state", "carry", "averages", "key", "evaluations"):
        chex.assert_trees_all_equal(getattr(after, name), getattr(before, name))
    good, metrics = TRAINER.step(after, CLEAN)
    assert metrics["finite"]
    assert (int(good.step), int(good.skipped), int(good.bad_in_row)) == (3, 1, 0)
    assert int(good.opt_state[0].count) == 2


def test_after_too_many_in_a_row_nothing_moves_any_more():
    state = TRAINER.init(0)
    for batch in (CLEAN, POISONED["loss"], POISONED["carry"]):
        state, _ = TRAINER.step(state, batch)
    frozen = digest_tree(state)
    assert int(state.step) == 3
    for batch in (CLEAN, POISONED["gradient"]):
        state, _ = TRAINER.step(state, batch)
        assert digest_tree(state) == frozen


def test_averages_follow_the_parameters_and_forget_where_they_began():
    state, seen = TRAINER.init(0), []
    for batch in (CLEAN, POISONED["loss"], CLEAN, CLEAN):
        before = state.params
        state, metrics = TRAINER.step(copy(state), batch)
        if metrics["finite"]:
            seen.append(np.asarray(state.params))
        weights = 0.9 ** np.arange(len(seen))[::-1]
        want = weights @ np.array(seen) / weights.sum()
        np.testing.assert_allclose(state.averages, want, rtol=1e-6)
    assert not np.allclose(before, state.params)
    assert state.evaluated_params is state.averages
    ema = optax.ema(0.9, debias=True)
    debiased, ema_state = jnp.zeros(2), ema.init(jnp.zeros(2))
    for params in seen:
        debiased, ema_state = ema.update(jnp.asarray(params), ema_state)
    np.testing.assert_allclose(state.averages, debiased, rtol=1e-5)


def test_a_plateau_scales_the_updates_down_and_is_part_of_the_state():
    plateau = make_plateau(0.5, patience=2)
    optimiser = Optimiser(optax.sgd(1.0), optax.constant_schedule(1.0), plateau)
    trainer = Trainer(Poisonable(), *optimiser)
    state = trainer.init(0)
    scales = []
    for measured in (3.0, 2.0, 2.5, 2.5, 2.5, 2.5):
        state = trainer.after_evaluation(state, measured)
        before = np.asarray(state.params)
        state, metrics = trainer.step(state, CLEAN)
        moved = (before - np.asarray(state.params)) / np.asarray(CLEAN[1])
        np.testing.assert_allclose(moved, metrics["learning_rate"], rtol=1e-6)
        scales.append(float(metrics["learning_rate"]))
    assert scales == [1, 1, 1, 0.5, 0.5, 0.25]
    for decay, patience in ((1.0, 1), (0.0, 1), (0.5, 0)):
        with pytest.raises(ValueError, match="a plateau needs a decay in"):
            make_plateau(decay, patience)


def test_a_plan_ends_at_its_steps_or_without_a_better_evaluation():
    plan = Plan(steps=100, eval_every=10, checkpoint_every=1, log_every=1, patience=3)
    assert not plan.ends(59, best_step=30)
    assert plan.ends(60, best_step=30) and plan.ends(100, best_step=90)
    assert not Plan(100, 10, 1, 1).ends(99, best_step=0)


def test_what_is_passed_over():
    skips = Skips.asked(["3:5", "9:9"])
    assert [n for n in range(12) if skips.covers(n)] == [3, 4, 5, 9]
    again = Skips.asked(["1:1"]).joined_by(json.loads(json.dumps(skips.record())))
    assert again.ranges == ((1, 1), (3, 5), (9, 9))
    back = again.after_rollback(6, 7, rollbacks=1)
    assert back.covers(7) and Skips().joined_by(back.record()) == Skips(
        tuple(sorted(back.ranges)), 1
    )
    assert Skips().joined_by({"seconds": 2.0}) == Skips()  # of an older version
    for wrong in ("3", "5:3", "0:2", "a:b", "1:2:3", ":"):
        with pytest.raises(ValueError, match="--skip-batches takes FIRST:LAST"):
            Skips.asked([wrong])


def test_a_save_by_the_way_is_kept_only_while_it_is_the_newest(tmp_path):
    state = {"x": np.zeros(3)}
    with CheckpointStore(tmp_path) as store:
        for step, lasting in ((1, True), (2, True), (3, False), (4, False)):
            store.save(step, state, lasting=lasting)
        assert store.steps() == [1, 2, 4]
        going_back = store.restore_lasting(state)
        assert going_back is not None and going_back.step == 2
        store.save(5, state)
        assert store.steps() == [2, 5]


def test_what_older_checkpoints_lack_comes_from_the_upgrade(tmp_path):
    with CheckpointStore(tmp_path) as store:
        store.save(1, {"x": np.zeros(3)})
        like = {"x": np.zeros(3), "later": np.array(0, np.int32)}
        with pytest.raises(ValueError, match="it lacks later"):
            store.restore(like)
        later = {"later": Leaf("int32", np.array(7, np.int32))}
        restored = store.restore(like, upgrade=lambda leaves: leaves | later)
    assert restored is not None and restored.state["later"] == 7


def test_only_allowed_fields_may_change_and_what_did_is_told(tmp_path):
    run = RunDirectory(tmp_path)
    began = {"rate": 0.1, "cell": "lstm", "seed": 0}
    run.enter(began)
    both = began | {"rate": 0.2, "cell": "gru"}
    with pytest.raises(ValueError, match=r"cell was 'lstm' .* --allow-change cell rate"):
        run.compare(both, "auto")
    with pytest.raises(ValueError, match=r"rate was 0.1 .* --allow-change rate\)"):
        run.compare(both, "auto", allowed={"cell"})
    with pytest.raises(ValueError, match="for a new run: another --run-dir"):
        run.compare(both, "auto")
    with pytest.raises(ValueError, match="--allow-change knows no rates"):
        run.compare(began, "auto", allowed={"rates"})
    without = {"rate": 0.1, "seed": 0}
    with pytest.raises(ValueError, match=r"cell was 'lstm' and is now None"):
        run.compare(without, "auto")
    assert run.compare(without, "auto", allowed={"cell"}) == {"cell": ("lstm", None)}
    # An older version did not know the newer field.
    now = began | {"rate": 0.2, "newer": True}
    assert run.compare(now, "auto", allowed={"rate"}) == {"rate": (0.1, 0.2)}
    with pytest.raises(ValueError, match="newer was 'old' and is now True"):
        run.compare(now, "auto", allowed={"rate"}, before={"newer": "old"})
    with pytest.raises(ValueError) as refusal:
        run.compare(both, "auto", misfit=lambda: "it lacks a leaf")
    assert "cannot go on so, its checkpoint does not fit: it lacks a" in str(refusal.value)
    assert "--allow-change" not in str(refusal.value)
    assert run.read_config() == began
    run.config.write_text("{")
    with pytest.raises(ValueError, match="config.json cannot be read"):
        run.compare(now, "auto")


def test_going_back_depends_on_when_it_saves():
    assert "checkpoint_every" in Options().free
    assert "checkpoint_every" not in Options(on_nan="rollback").free
    assert Options(on_nan="stop").halt_after == Options(on_nan="rollback").halt_after == 1
    assert Options(nan_limit=7).halt_after == 7
    with pytest.raises(ValueError, match="nan_limit must be 1 or more, got 0"):
        Options(nan_limit=0).halt_after  # noqa: B018


def test_what_older_versions_did_otherwise_is_named():
    assert "weight_decay_of" in Options().free  # nothing decays
    assert "weight_decay_of" not in Options(weight_decay=0.1).free
    assert Options().before == {
        "eval_batches": None,
        "init_from": None,
        "weight_decay_of": "all",
        "accumulate": 1,
        "precision": "float32",
        "matmul_precision": "default",
        "average_after": None,
        "beta1": 0.9,
        "decay_threshold": 1e-4,
        "loss_factor": 1.0,
    }
    averaging = Options(average=0.9).before
    assert averaging["average_from"] == "initial parameters"
    assert TRAINER.fingerprint["average_from"] == "first update"


@pytest.mark.parametrize("average", [-0.1, 1.0])
def test_an_average_that_would_not_move_or_would_grow_is_refused(average):
    with pytest.raises(ValueError, match=r"average must lie in \[0, 1\), got"):
        Options(average=average).make_trainer(Poisonable())
    for kept in (0.0, 0.5):
        trainer = Options(average=kept).make_trainer(Poisonable())
        assert bool(jax.tree.leaves(trainer.like.averages)) == bool(kept)

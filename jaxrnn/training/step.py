"""One update of the parameters, compiled, over a mesh of any number of devices."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrnn.strategies.select import select
from jaxrnn.training.optimiser import Optimiser
from jaxrnn.training.state import TrainState
from jaxrnn.training.store.leaves import spread

# loss(params, carry, batch, key) -> (loss, carry after the batch)
Loss = Callable[[Any, Any, Any, Array], tuple[Array, Any]]
# step(state, batch) -> (state, metrics)
TrainStep = Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]]


def make_mesh() -> Mesh:
    """All devices along one axis "data", over which batches are split."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def place_state(state: TrainState, mesh: Mesh) -> TrainState:
    """Every device holds the parameters; the rows of the carry are split over them.

    A copy, whose memory may be given away. Raises ValueError if the devices cannot share
    the rows evenly.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    state, carry = jax.tree.map(jnp.copy, (state._replace(carry=()), state.carry))
    state = jax.tree.map(lambda leaf: spread(leaf, whole), state)
    return state._replace(carry=place_carry(carry, mesh))


def place_carry(carry: Any, mesh: Mesh) -> Any:
    """The rows of a carry `[B, ...]` split over the devices.

    Raises ValueError if the devices cannot share them evenly.
    """

    def place(leaf):
        check_rows(leaf.shape[0], mesh)
        return spread(leaf, carry_sharding(mesh))

    return jax.tree.map(place, carry)


def carry_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec("data"))


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Batches are trees of arrays `[T, B, ...]`, or `[B]` for what belongs to a lane.

    Several processes all call it with the whole batch; each keeps its devices' part.
    Raises ValueError if the devices cannot share the rows evenly.
    """

    def place(array):
        axes = ("data",) if array.ndim == 1 else (None, "data")
        check_rows(array.shape[len(axes) - 1], mesh)
        return spread(array, NamedSharding(mesh, PartitionSpec(*axes)))

    return jax.tree.map(place, batch)


def check_rows(rows: int, mesh: Mesh) -> None:
    """Raises ValueError if the devices cannot share the rows of a batch evenly."""
    if rows % mesh.size:
        raise ValueError(
            f"a batch of {rows} rows cannot be split evenly over {mesh.size} devices"
        )


def make_train_step(
    loss: Loss, optimiser: Optimiser, *, halt_after: int = 1, average: float = 0.0
) -> TrainStep:
    """Returns the jitted `step(state, batch) -> (state, metrics)`.

    The memory of the state passed in is given to the state returned. Metrics: the
    batch's `loss` and `gradient_norm` (before any clipping), both before the update, the
    `learning_rate` of the update, and `finite`.

    A step whose loss, gradient, update or carry is not finite changes neither params,
    optimiser, averages nor carry: it is counted, and `finite` is False. After `halt_after`
    of them in a row nothing changes any more, not even `step`: the state waits for
    whoever decides what to do.

    average: the decay d a step of the averages, if the state keeps some. After n updates
    they are sum_k d^(n - k) params_k / sum_k d^(n - k) over k = 1 ... n: where training
    began has no part in them (as Adam corrects its moments, Kingma & Ba 2015).
    """

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)
        (value, carry), gradients = jax.value_and_grad(loss, has_aux=True)(
            state.params, state.carry, batch, key
        )
        with jax.numpy_dtype_promotion("standard"):  # which Optax counts on
            updates, opt_state = optimiser.transform.update(
                gradients, state.opt_state, state.params
            )
            rate = jnp.asarray(optimiser.schedule(state.step - state.skipped))
            if optimiser.plateau is not None:
                rate *= state.plateau.scale
                updates = optax.tree.scale(state.plateau.scale, updates)
            params = optax.apply_updates(state.params, updates)
        averages = state.averages
        if jax.tree.leaves(averages):
            updates_done = state.step - state.skipped + 1
            averages = moved(averages, params, average, updates_done)

        norm = optax.tree.norm(gradients)
        finite = all_finite((value, norm, updates, carry))
        moves = state.bad_in_row < halt_after
        updated = state._replace(
            params=params, opt_state=opt_state, carry=carry, averages=averages
        )
        after = select(finite & moves, updated, state)._replace(
            step=state.step + moves.astype(jnp.int32),
            skipped=state.skipped + (moves & ~finite).astype(jnp.int32),
            bad_in_row=jnp.where(
                moves, jnp.where(finite, 0, state.bad_in_row + 1), state.bad_in_row
            ),
        )
        return after, {
            "loss": value,
            "gradient_norm": norm,
            "learning_rate": rate,
            "finite": finite,
        }

    return jax.jit(step, donate_argnums=0)


def moved(averages: Any, params: Any, decay: float, n: Array) -> Any:
    """The averages after update `n`, [] int32 from 1 on.

    averages + (1 - decay) / (1 - decay^n) (params - averages), which is `params` for n = 1.
    """
    log = math.log(decay) if decay else -math.inf
    rate = (1 - decay) / -jnp.expm1(n.astype(jnp.float32) * log)

    def move(average: Array, param: Array) -> Array:
        share = rate.astype(average.dtype)
        return share * param + (1 - share) * average

    return jax.tree.map(move, averages, params)


def all_finite(tree: Any) -> Array:
    """[] bool: whether every number of the tree is finite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))

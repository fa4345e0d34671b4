"""One update of the parameters, compiled, over a mesh of any number of devices."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrnn.training.state import TrainState

# loss(params, carry, batch, key) -> (loss, carry after the batch)
Loss = Callable[[Any, Any, Any, Array], tuple[Array, Any]]


def make_mesh() -> Mesh:
    """All devices along one axis "data", over which batches are split."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def place_state(state: TrainState, mesh: Mesh) -> TrainState:
    """Every device holds the parameters; the rows of the carry are split over them.

    Raises ValueError if the devices cannot share the rows evenly.
    """
    for leaf in jax.tree.leaves(state.carry):
        if leaf.shape[0] % mesh.size:
            raise ValueError(
                f"a batch of {leaf.shape[0]} rows cannot be split evenly over {mesh.size} "
                "devices"
            )
    return jax.device_put(state, state_shardings(state, mesh))


def state_shardings(state: TrainState, mesh: Mesh) -> TrainState:
    whole = NamedSharding(mesh, PartitionSpec())
    rows = NamedSharding(mesh, PartitionSpec("data"))
    shardings = jax.tree.map(lambda _: whole, state)
    return shardings._replace(carry=jax.tree.map(lambda _: rows, state.carry))


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Batches are trees of arrays `[T, B, ...]`, or `[B]` for what belongs to a lane."""

    def place(array):
        axes = ("data",) if array.ndim == 1 else (None, "data")
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*axes)))

    return jax.tree.map(place, batch)


def make_train_step(
    loss: Loss, optimiser: optax.GradientTransformation, schedule: optax.Schedule
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]]:
    """Returns the jitted `step(state, batch) -> (state, metrics)`.

    The memory of the state passed in is given to the state returned. Metrics: the
    batch's `loss` and `gradient_norm` (before any clipping), both before the update, and
    the `learning_rate` that `schedule`, the optimiser's own, gives at this step.
    """

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)
        (value, carry), gradients = jax.value_and_grad(loss, has_aux=True)(
            state.params, state.carry, batch, key
        )
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        metrics = {
            "loss": value,
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": schedule(state.step),
        }
        return state._replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            carry=carry,
        ), metrics

    return jax.jit(step, donate_argnums=0)

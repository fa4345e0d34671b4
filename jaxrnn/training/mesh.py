"""Trees of arrays over the devices of a mesh, in one process or several."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrnn.training.leaves import distribute

DATA = "data"  # the mesh axis that the rows of a batch are split over

Spec = Callable[[Any], PartitionSpec]


def make_mesh() -> Mesh:
    """All devices along one axis, over which batches are split."""
    return jax.make_mesh((jax.device_count(),), (DATA,), axis_types=(AxisType.Auto,))


def check_rows(rows: int, mesh: Mesh) -> None:
    """Raises ValueError if the devices cannot share the rows of a batch evenly."""
    devices = mesh.shape[DATA]
    if rows < 1 or rows % devices:
        raise ValueError(
            f"a batch of {rows} rows cannot be split evenly over {devices} devices"
        )


def shardings(tree: Any, spec: Spec, mesh: Mesh) -> Any:
    """Where each array of the tree is to lie."""
    return jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf)), tree)


def placements(tree: Any) -> Any:
    """Where each array of the tree lies."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def everywhere(array: Any) -> PartitionSpec:
    """The same on every device."""
    return PartitionSpec()


def cut_evenly(mesh: Mesh) -> Spec:
    """An array cut along its longest axis that the devices can share evenly, a part a
    device; whole on every one where there is no such axis."""
    devices = mesh.shape[DATA]

    def spec(array: Any) -> PartitionSpec:
        even = [axis for axis, size in enumerate(array.shape) if size % devices == 0]
        if devices == 1 or not even:
            return PartitionSpec()
        longest = max(even, key=lambda axis: array.shape[axis])
        return PartitionSpec(*[None] * longest, DATA)

    return spec


def placed_like(tree: Any, spec: Spec, mesh: Mesh) -> Any:
    """The shapes and dtypes of a tree, lying on a mesh, without its numbers."""
    return jax.tree.map(
        lambda leaf, lies: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies),
        tree,
        shardings(tree, spec, mesh),
    )


def place(tree: Any, spec: Spec, mesh: Mesh) -> Any:
    """A tree that every process has whole, on the devices.

    Raises ValueError if the devices cannot share the rows evenly.
    """

    def put(leaf: Any) -> jax.Array:
        sharding = NamedSharding(mesh, spec(leaf))
        for axis, size in zip(tuple(spec(leaf)), leaf.shape, strict=False):
            if axis == DATA:
                check_rows(size, mesh)
        return distribute(leaf, sharding)

    return jax.tree.map(put, tree)


def rows_here(rows: int, mesh: Mesh) -> np.ndarray:
    """The numbers of the rows of a batch that the devices of this process hold."""
    held = np.zeros(rows, bool)
    sharding = NamedSharding(mesh, PartitionSpec(DATA))
    for at in sharding.addressable_devices_indices_map((rows,)).values():
        held[at] = True
    return np.flatnonzero(held)


def place_rows(tree: Any, rows: np.ndarray, total: int, spec: Spec, mesh: Mesh) -> Any:
    """A batch of `total` rows on the devices of all processes, each of which gives the
    rows numbered `rows`, and whole what all rows share.

    Raises ValueError for an array of another number of rows.
    """
    if len(rows) == total:
        return place(tree, spec, mesh)

    def put(leaf: Any) -> jax.Array:
        sharding = NamedSharding(mesh, spec(leaf))
        if DATA not in tuple(sharding.spec):
            return distribute(leaf, sharding)
        axis = tuple(sharding.spec).index(DATA)
        if leaf.shape[axis] != len(rows):
            raise ValueError(
                f"batch was asked for {len(rows)} of {total} rows and gave an array of "
                f"{list(leaf.shape)}"
            )
        shape = (*leaf.shape[:axis], total, *leaf.shape[axis + 1 :])

        def part(at: Any) -> np.ndarray:
            first, last, _ = at[axis].indices(total)
            within = slice(*np.searchsorted(rows, (first, last)))
            return leaf[(*at[:axis], within, *at[axis + 1 :])]

        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(put, tree)

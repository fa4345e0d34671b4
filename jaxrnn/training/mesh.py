"""Trees of arrays over the devices of a mesh, in one process or several."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrnn.training.leaves import distribute

DATA = "data"  # the mesh axis that the rows of a batch are split over
MODEL = "model"  # the mesh axis that the units of cells are split over

Spec = Callable[[Any], PartitionSpec]


def make_mesh(data: int | None = None, model: int = 1) -> Mesh:
    """All devices, `data` of them (None: as many as there are) for the rows of a batch,
    times `model` for the units of cells.

    Raises ValueError if that are not all devices.
    """
    count = jax.device_count()
    shape = count // max(model, 1) if data is None else data, model
    if min(shape) < 1 or shape[0] * shape[1] != count:
        asked = f"model={model}" if data is None else f"data={data},model={model}"
        raise ValueError(
            f"a mesh of {asked} does not take up all devices, which are {count}"
        )
    return jax.make_mesh(shape, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)


def automatic(mesh: Mesh) -> Mesh:
    """The mesh with axes along which XLA finds out how arrays lie, as training needs it."""
    return mesh.update(axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def read_mesh(text: str) -> Mesh:
    """The mesh that `text` says, such as "data=4,model=2"; raises ValueError for none."""
    words = [word.strip().partition("=") for word in text.split(",")]
    sizes = {name: size for name, _, size in words}
    known = len(sizes) == len(words) and sizes.keys() <= {DATA, MODEL}
    if not known or not all(size.isdecimal() for size in sizes.values()):
        raise ValueError(f"a mesh is told as data=4,model=2, got {text!r}")
    return make_mesh(**{name: int(size) for name, size in sizes.items()})


def shares_evenly(array: Any, spec: Spec, mesh: Mesh) -> bool:
    """Whether the rows of an array divide over the devices."""
    along = zip(spec(array), array.shape, strict=False)
    return all(size % mesh.shape[DATA] == 0 for axis, size in along if axis == DATA)


def where_even(spec: Spec, mesh: Mesh) -> Spec:
    """As `spec` says, but whole on every device where the rows do not divide: JAX has no
    arrays in unequal parts, except within a program (`spread`)."""

    def placed(array: Any) -> PartitionSpec:
        return spec(array) if shares_evenly(array, spec, mesh) else PartitionSpec()

    return placed


def spread(tree: Any, spec: Spec, mesh: Mesh) -> Any:
    """Within a program: each device takes its part of what `where_even` left whole. XLA
    pads the parts, and keeps what it pads with out of every sum."""

    def cut(leaf: Any) -> Any:
        if shares_evenly(leaf, spec, mesh):
            return leaf
        lies = NamedSharding(mesh, spec(leaf))
        return jax.lax.with_sharding_constraint(leaf, lies)

    return jax.tree.map(cut, tree)


def shardings(tree: Any, spec: Spec, mesh: Mesh) -> Any:
    """Where each array of the tree is to lie."""
    return jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf)), tree)


def placements(tree: Any) -> Any:
    """Where each array of the tree lies."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def everywhere(array: Any) -> PartitionSpec:
    """The same on every device."""
    return PartitionSpec()


def cut_evenly(mesh: Mesh, *axes: str) -> Spec:
    """An array cut along its longest axis that the devices along `axes` of the mesh can
    share evenly, a part a device; whole on every one where there is no such axis."""
    devices = math.prod(mesh.shape.get(axis, 1) for axis in axes)

    def spec(array: Any) -> PartitionSpec:
        even = [axis for axis, size in enumerate(array.shape) if size % devices == 0]
        if devices == 1 or not even:
            return PartitionSpec()
        longest = max(even, key=lambda axis: array.shape[axis])
        return PartitionSpec(*[None] * longest, axes)

    return spec


def put_together(params: Any, mesh: Mesh) -> Any:
    """Within a program: params that lie in parts on all devices, in parts along MODEL alone
    from here on."""
    whole = shardings(params, cut_evenly(mesh, MODEL), mesh)
    params = jax.lax.with_sharding_constraint(params, whole)
    # Each behind a barrier, or XLA puts them together again at every turn of a loop.
    return jax.tree.map(jax.lax.optimization_barrier, params)


def placed_like(tree: Any, spec: Spec, mesh: Mesh) -> Any:
    """The shapes and dtypes of a tree, lying on a mesh, without its numbers."""
    return jax.tree.map(
        lambda leaf, lies: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies),
        tree,
        shardings(tree, spec, mesh),
    )


def place(tree: Any, spec: Spec, mesh: Mesh) -> Any:
    """A tree that every process has whole, on the devices."""
    return jax.tree.map(distribute, tree, shardings(tree, where_even(spec, mesh), mesh))


def rows_here(rows: int, mesh: Mesh) -> np.ndarray:
    """The numbers of the rows of a batch that the devices of this process hold: all where
    they do not divide over the devices."""
    if rows % mesh.shape[DATA]:
        return np.arange(rows)
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

"""One call over the devices of a mesh: rows cut along one axis, units along another.

Left to itself, XLA's partitioner may well exchange something at every step of a loop. So
each device runs the loop over its own rows and units (`jax.shard_map`): what the devices
add up to the gradient of the params is added up once, after the loops, and in them they
exchange h alone, where they share its units.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, Mesh, PartitionSpec
from jax.typing import DTypeLike

from jaxrnn.cell import Cell
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.placement import vary


@dataclass(frozen=True)
class Devices:
    """A mesh, and the names of its axes for the rows of a batch and the units of a cell."""

    mesh: Mesh
    rows: str
    units: str

    def along(self, axis: str) -> int:
        return self.mesh.shape.get(axis, 1)


# A context that JAX's caches of traced and compiled functions know of.
_DEVICES = jax.make_user_context(None)


@contextmanager
def over_devices(mesh: Mesh, rows: str = "data", units: str = "model") -> Iterator[None]:
    """Every `unroll` traced inside shares its work among the devices of `mesh`.

        with over_devices(jaxrnn.training.make_mesh(data=4, model=2)):
            carry, ys = unroll(cell, params, xs)

    The rows, the first batch axis of xs `[T, rows, ..., D]`, are cut along the axis `rows`
    of the mesh, the last one repeated where they do not divide; the units of a cell along
    `units`, if the mesh has it. `Trainer` does so with its mesh. Numbers are those of one
    device but for the order of sums. Inside a `shard_map` there is nothing left to share.

    Raises ValueError for a mesh whose axes are not automatic and, where a cell is run, if
    its units cannot be shared.
    """
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise ValueError(
            f"over_devices needs a mesh of automatic axes, got {mesh.axis_types}: under "
            "explicit ones the arrays' types say how they lie, and unroll goes by them"
        )
    with _DEVICES(Devices(mesh, rows, units)):
        yield


def shared(
    run: Callable[[Call], tuple[Any, Any]], call: Call, batch_shape: tuple[int, ...]
) -> tuple[Any, Any]:
    """`run(call)`, of xs `[T, *batch_shape, D]`, each device with its own part of it."""
    devices: Devices | None = _DEVICES.value
    if devices is None or not jax.sharding.get_abstract_mesh().empty:
        return run(call)
    rows, units = _rows(batch_shape, devices), _units(call.cell, devices)
    if rows is None and units is None:
        return run(call)
    cell, params, of_rows = call.cell, call.params, call.cell.of_rows(call.params)
    if units is not None:
        params = jax.tree.map(partial(_gates_apart, size=cell.hidden_size), params)
        cell = cell.around(partial(Part.of, axis=units, count=devices.along(units)))

    def part(params: Any, start: Any, carry: Any, *per_step: Any) -> tuple[Any, Any]:
        if units is not None:
            params = jax.tree.map(_gates_together, params)
        params, carry = vary((params, carry), *per_step)
        start = vary(start, params)
        inputs, mask, reset = per_step
        arrays = params, start, carry, inputs, mask, reset
        return run(Call(cell, call.reverse, call.own_start, *arrays))

    def lies(leaf: Array, own: bool) -> PartitionSpec:
        return _ends(leaf.ndim, rows if own else None, units)

    of_params = jax.tree.map(lies, params, of_rows)
    of_carry = _ends(len(batch_shape) + 1, rows, units)
    of_step = PartitionSpec(None, rows)
    run_parts = jax.shard_map(
        part,
        mesh=devices.mesh,
        in_specs=(of_params, of_carry, of_carry, of_step, of_step, of_step),
        out_specs=(of_carry, PartitionSpec(None, *of_carry)),
    )
    per_step = call.inputs, call.mask, call.reset
    lacking = 0 if rows is None else -batch_shape[0] % devices.along(rows)
    if not lacking:
        return run_parts(params, call.start, call.carry, *per_step)

    def repeated(leaf: Array, axis: int) -> Array:
        """With the last row so often more that the rows divide evenly: unlike zeros it
        gives no numbers, nor gradients, that a row of the batch does not."""
        width = [(0, lacking if at == axis else 0) for at in range(leaf.ndim)]
        return jnp.pad(leaf, width, mode="edge")

    params = jax.tree.map(lambda x, own: repeated(x, 0) if own else x, params, of_rows)
    around = jax.tree.map(lambda x: repeated(x, 0), (call.start, call.carry))
    per_step = jax.tree.map(lambda x: repeated(x, 1), per_step)
    carry, ys = run_parts(params, *around, *per_step)
    carry = jax.tree.map(lambda x: x[: batch_shape[0]], carry)
    return carry, jax.tree.map(lambda y: y[:, : batch_shape[0]], ys)


def _rows(batch_shape: tuple[int, ...], devices: Devices) -> str | None:
    """The axis of the mesh that shares the rows."""
    return devices.rows if batch_shape and devices.along(devices.rows) > 1 else None


def _units(cell: Cell, devices: Devices) -> str | None:
    """The axis of the mesh that shares the units; raises ValueError if they cannot be."""
    axis, count = devices.units, devices.along(devices.units)
    if count == 1:
        return None
    if not cell.shares_units:
        raise ValueError(
            f"{count} devices along {axis!r} cannot share the units of {cell}: they can of "
            "a cell whose steps exchange nothing between units but h, such as LSTM and GRU"
        )
    if cell.hidden_size % count:
        raise ValueError(
            f"{count} devices along {axis!r} cannot share {cell.hidden_size} units evenly"
        )
    return axis


def _ends(rank: int, first: str | None, last: str | None) -> PartitionSpec:
    """An array of `rank` axes, cut along the first and the last of them."""
    if last is None:
        return PartitionSpec(first)
    return PartitionSpec(*(first,) * (rank > 1), *(None,) * (rank - 2), last)


def _gates_apart(leaf: Array, size: int) -> Array:
    """`[..., n H]` as `[..., n, H]`, so that a part of the units has all of its gates."""
    return leaf.reshape(*leaf.shape[:-1], -1, size)


def _gates_together(leaf: Array) -> Array:
    return leaf.reshape(*leaf.shape[:-2], -1)


@dataclass(frozen=True)
class Part(Cell[Any, Any]):
    """One device's units of a cell: its step, with the h of all devices in `mix`."""

    cell: Cell  # of as many units as a device has
    axis: str

    @classmethod
    def of(cls, cell: Cell, axis: str, count: int) -> "Part":
        whole: Any = cell
        return cls(replace(whole, hidden_size=cell.hidden_size // count), axis)

    def __post_init__(self) -> None:
        pass

    @property
    def input_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cell.input_size

    @property
    def hidden_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cell.hidden_size

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Any:
        return self.cell.init(key, dtype)

    def initial_carry(self, params: Any, batch_shape: tuple[int, ...] = ()) -> Any:
        return self.cell.initial_carry(params, batch_shape)

    def widen(self, carry: Any) -> Any:
        return self.cell.widen(carry)

    def project(self, params: Any, x: Any) -> Any:
        return self.cell.project(params, x)

    def mix(self, params: Any, carry: Any) -> Any:
        axis = carry.h.ndim - 1
        h = jax.lax.all_gather(carry.h, self.axis, axis=axis, tiled=True)
        return self.cell.mix(params, carry._replace(h=h))

    def gate(self, params: Any, carry: Any, u: Any, r: Any) -> tuple[Any, Array]:
        return self.cell.gate(params, carry, u, r)

"""A loop over time as one Pallas kernel of a TPU, with what all steps share in its VMEM.

The grid is time, a step a grid point, one after the other. What all steps share has one
block that never moves, so it comes into VMEM once; the carry lies in scratch memory,
which outlives a grid point; what a step takes in and leaves is the block of its time,
fetched and written back while its neighbours compute.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxrnn.strategies.program import PLAIN_CALLS, evaluate

Step = Callable[[Any, Any, Any], tuple[Any, Any]]

# What a jaxpr calls other jaxprs by; a kernel takes in their equations themselves.
CALLS = PLAIN_CALLS | {"custom_jvp_call", "custom_vjp_call"}


def over_steps(
    step: Step,
    shared: Any,
    carry: Any,
    per_step: Any,
    *,
    reverse: bool,
    vmem: int,
    interpret: Any,
) -> tuple[Any, Any]:
    """`step(shared, carry, inputs) -> (carry, outputs)` over `per_step`, leaves `[T, ...]`.

    What `jax.lax.scan` gives of it. Leaves of the carry, of the inputs and of the outputs
    are matrices. `vmem` is how many bytes of VMEM the kernel may take, `interpret` is
    that of `pallas_call`.
    """
    traced = Traced.of(step, shared, carry, per_step)
    inputs, firsts = jax.tree.leaves(per_step), jax.tree.leaves(carry)
    length = inputs[0].shape[0]
    counts = [len(traced.resident), len(firsts), len(inputs)]
    counts += [len(firsts), len(traced.left), len(firsts)]

    def kernel(*refs: Any) -> None:
        resident, first, taken, last, left, held = _cut(refs, counts)
        time = pl.program_id(0)

        @pl.when(time == 0)
        def begin() -> None:
            _write(held, _read(first))

        shared = map(_reshaped, _read(resident), traced.resident)
        after, outputs = traced.run([*shared], _read(held), _read(taken))
        _write(held, after)
        _write(left, outputs)

        @pl.when(time == length - 1)
        def end() -> None:
            _write(last, after)

    def at_its_time(leaf: Any) -> pl.BlockSpec:
        def place(time: Any) -> tuple[Any, ...]:
            return length - 1 - time if reverse else time, *(0,) * leaf.ndim

        return pl.BlockSpec((None, *leaf.shape), place)

    # The arrays may differ from device to device inside a `shard_map`; so do the results.
    varying = jax.typeof(inputs[0]).manual_axis_type

    def result(leaf: Any, *times: int) -> jax.ShapeDtypeStruct:
        shape = (*times, *leaf.shape)
        return jax.ShapeDtypeStruct(shape, leaf.dtype, manual_axis_type=varying)

    whole = pl.BlockSpec(memory_space=pltpu.VMEM)
    results = pl.pallas_call(
        kernel,
        grid=(length,),
        in_specs=[
            *[whole] * (len(traced.resident) + len(firsts)),
            *(at_its_time(_at_one_time(leaf)) for leaf in inputs),
        ],
        out_specs=[*[whole] * len(firsts), *map(at_its_time, traced.left)],
        out_shape=[*map(result, firsts), *(result(leaf, length) for leaf in traced.left)],
        scratch_shapes=[pltpu.VMEM(leaf.shape, leaf.dtype) for leaf in firsts],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("arbitrary",), vmem_limit_bytes=vmem
        ),
        interpret=interpret,
    )(*map(_matrix, traced.resident), *firsts, *inputs)
    last, left = _cut(results, [len(firsts), len(traced.left)])
    return jax.tree.unflatten(jax.tree.structure(carry), last), traced.outputs(left)


def vmem_needed(step: Step, shared: Any, carry: Any, per_step: Any) -> int:
    """Bytes that lie in VMEM in any case, before what the compiler adds of its own.

    Arrays may be shapes.
    """
    traced = Traced.of(step, shared, carry, per_step)
    firsts = jax.tree.leaves(carry)
    moving = [*map(_at_one_time, jax.tree.leaves(per_step)), *traced.left]
    # The carry comes in, is held and goes out; of what moves, two blocks are at hand.
    return _bytes(traced.resident) + 3 * _bytes(firsts) + 2 * _bytes(moving)


class Traced(NamedTuple):
    """A step as a jaxpr, and what a kernel of it reads and writes."""

    jaxpr: Any
    resident: list[Any]  # of all steps: constants of its own, and what it reads of `shared`
    reads: list[bool]  # which leaves of `shared` those are
    left: list[Any]  # the shapes of what one step leaves behind, each once
    where: list[int]  # which of `left` each leaf of the outputs is
    structure: Any  # of the outputs

    @classmethod
    def of(cls, step: Step, shared: Any, carry: Any, per_step: Any) -> "Traced":
        # From shapes alone: inside a `shard_map` the types of arrays name axes of the
        # mesh, which mean nothing in a kernel.
        inputs = jax.tree.map(_at_one_time, per_step)
        shapes = jax.tree.map(_shape, (shared, carry))
        closed, outputs = jax.make_jaxpr(step, return_shape=True)(*shapes, inputs)
        jaxpr, leaves = closed.jaxpr, jax.tree.leaves(shared)
        used = {id(v) for equation in jaxpr.eqns for v in equation.invars}
        used |= {id(v) for v in jaxpr.outvars}
        reads = [id(v) in used for v in jaxpr.invars[: len(leaves)]]
        read = [leaf for leaf, yes in zip(leaves, reads, strict=True) if yes]

        left = jaxpr.outvars[len(jax.tree.leaves(carry)) :]
        once = list({id(v): v for v in left}.values())
        where = [[id(v) for v in once].index(id(v)) for v in left]
        shapes = [_shape(v.aval) for v in once]
        structure = jax.tree.structure(outputs[1])
        return cls(jaxpr, [*closed.consts, *read], reads, shapes, where, structure)

    def run(
        self, resident: list[Array], carry: list[Array], inputs: list[Array]
    ) -> tuple[list[Array], list[Array]]:
        """The carry after the step, and what it leaves."""
        constants, read = _cut(resident, [len(self.jaxpr.constvars), sum(self.reads)])
        given = iter(read)
        shared = [next(given) if yes else None for yes in self.reads]
        arguments = [*shared, *carry, *inputs]
        results = evaluate(self.jaxpr, constants, arguments, _widely, CALLS)
        after, outputs = _cut(results, [len(carry), len(self.where)])
        return [*after], [outputs[self.where.index(n)] for n in range(len(self.left))]

    def outputs(self, left: Sequence[Array]) -> Any:
        return jax.tree.unflatten(self.structure, [left[n] for n in self.where])


def _widely(left: Array, right: Array, **parameters: Any) -> Array:
    """A product of narrow numbers is summed in float32 and then rounded: a TPU's matrix
    unit has no narrower sum, and XLA's product does the same."""
    dtype = np.dtype(parameters["preferred_element_type"] or left.dtype)
    sums = np.dtype(np.float32) if dtype.itemsize < 4 else dtype
    parameters |= {"preferred_element_type": sums}
    return jax.lax.dot_general(left, right, **parameters).astype(dtype)


def _matrix(a: Any) -> Array:
    """A vector as a row: how a vector lies in VMEM depends on the chip, and a program may
    be lowered where there is none to ask."""
    a = jnp.asarray(a)
    return a.reshape((1,) * (2 - a.ndim) + a.shape)


def _reshaped(a: Array, like: Any) -> Array:
    return a.reshape(like.shape)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _at_one_time(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)


def _bytes(leaves: Iterable[Any]) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def _cut(items: Sequence[Any], counts: Sequence[int]) -> list[Sequence[Any]]:
    ends = np.cumsum([0, *counts])
    return [items[a:b] for a, b in zip(ends, ends[1:], strict=False)]


def _read(refs: Iterable[Any]) -> list[Array]:
    return [ref[...] for ref in refs]


def _write(refs: Iterable[Any], values: Iterable[Array]) -> None:
    for ref, value in zip(refs, values, strict=True):
        ref[...] = value

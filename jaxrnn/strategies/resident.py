"""Recurrent weights that stay in a TPU's VMEM over all steps: a Pallas kernel.

The loop over time and the loop back are a kernel each (`in_vmem`), made of the cell's own
`mix` and `gate` and of JAX's derivatives of them. As in `fused`, the loop back carries
only the gradient of the carry, and what it leaves behind for every step gives the
gradient of the parameters after the loop: all of time at once, that of the recurrent
weights in one product, added up in float32.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.arrays import widen
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.devices import Part
from jaxrnn.strategies.fused import depends
from jaxrnn.strategies.products import for_all_steps
from jaxrnn.strategies.select import select
from jaxrnn.strategies.step import Step, project
from jaxrnn.strategies.strategy import Strategy

MIB = 2**20


@dataclass(frozen=True)
class Resident(Strategy):
    """A kernel for TPUs that holds the recurrent weights in VMEM over all steps.

    **Never timed on hardware**: compiled for v5e and v6e, and equal to `Scan` in the
    interpreter of Pallas. So "auto" does not take it. It serves cells that split into mix
    and gate, of one axis of features, and is differentiated once, in reverse mode.

    vmem: how many MiB of VMEM the kernel may take. A core of v5e and v6e has 128.
    interpret: what `pallas_call` takes: True, or `InterpretParams` of Pallas for TPUs, runs
    the kernel step by step on any platform, to test it. Raises ValueError for a `vmem`
    below 1.
    """

    vmem: int = 96
    interpret: Any = False

    why = "its recurrent weights stay in VMEM over all steps"

    def __post_init__(self) -> None:
        given = self.vmem
        if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
            raise ValueError(f"Resident needs a vmem of 1 MiB or more, got {given!r}")
        object.__setattr__(self, "vmem", int(given))

    def refusal(self, call: Call, platform: str) -> str | None:
        if platform != "tpu" and not self.interpret:
            return "its kernel is for TPUs alone"
        if not call.cell.splits:
            return "its recurrence does not split into mix and gate"
        if isinstance(call.cell, Part):
            return "a kernel cannot ask other devices for their units at every step"
        return _misfit(call) or self._too_large(call)

    def drawback(self, call: Call, platform: str) -> str | None:
        return "it was never timed on hardware"

    def _too_large(self, call: Call) -> str | None:
        from jaxrnn.strategies import in_vmem

        rows = jax.eval_shape(_in_rows, call)
        step = Step.of(rows, rows.inputs)
        over_all = jax.eval_shape(partial(OverAll.of, step), rows)
        needed = in_vmem.vmem_needed(partial(_kept, step), *over_all.forwards)
        if needed <= self.vmem * MIB:
            return None
        return (
            f"its weights and what a step takes in and leaves need {-(-needed // MIB)} MiB "
            f"of VMEM or more, and it may take {self.vmem}"
        )

    def over_time(self, call: Call) -> tuple[Any, Array]:
        batch = jax.tree.leaves(call.carry)[0].shape[:-1]
        rows = _in_rows(call)
        step = Step.of(rows, rows.inputs)
        last, ys = _recur(self, step, call.reverse, OverAll.of(step, rows))  # pyright: ignore
        last = jax.tree.map(lambda a: a.reshape(*batch, a.shape[-1]), last)
        return last, ys.reshape(ys.shape[0], *batch, ys.shape[-1])

    def loop(
        self, step: Any, shared: Any, carry: Any, per_step: Any, reverse: bool
    ) -> tuple[Any, Any]:
        # Imported here, since Pallas takes half a second and few ask for it.
        from jaxrnn.strategies import in_vmem

        options: Any = {"vmem": self.vmem * MIB, "interpret": self.interpret}

        @jax.custom_jvp
        def run(*arrays: Any) -> tuple[Any, Any]:
            return in_vmem.over_steps(step, *arrays, reverse=reverse, **options)

        @run.defjvp
        def again(primals: Any, tangents: Any) -> Any:
            # Met where the derivative itself is differentiated.
            raise ValueError(
                "strategy 'resident' is differentiated once, in reverse mode: take 'fused' "
                "for derivatives of derivatives"
            )

        return run(shared, carry, per_step)


class OverAll(NamedTuple):
    """What a loop takes, with one axis of rows in place of the batch axes."""

    weights: Any
    start: Any
    carry: Any
    us: Any  # leaves [T, B, N]
    mask: Array | None  # [T, B, 1]
    reset: Array | None

    @classmethod
    def of(cls, step: Step, rows: Call) -> "OverAll":
        weights, start = step.weights(widen(rows.params)), rows.cell.widen(rows.start)
        return cls(weights, start, rows.carry, rows.inputs, rows.mask, rows.reset)

    @property
    def forwards(self) -> tuple[Any, Any, Any]:
        """shared, carry and per_step of the loop over time."""
        return (self.weights, self.start), self.carry, (self.us, self.mask, self.reset)


def _misfit(call: Call) -> str | None:
    """What of the call's arrays has no place in the kernel."""
    us = jax.eval_shape(project, call)
    shapes = [leaf.shape for leaf in jax.tree.leaves((call.carry, us))]
    if not all(isinstance(size, int) for shape in shapes for size in shape):
        return "a kernel has no sizes that are still unknown"
    if 0 in shapes[0]:
        return "a kernel has no empty batch"
    if any(jax.tree.leaves(call.cell.of_rows(call.params))):
        return "it has parameters of each row, such as noise"
    carry = jax.eval_shape(partial(call.cell.initial_carry, batch_shape=()), call.params)
    batch = len(shapes[0]) - 1
    u = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1 + batch :], a.dtype), us)
    for what, tree in ("carry", carry), ("u", u):
        for leaf in jax.tree.leaves(tree):
            real = jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize <= 4
            if leaf.ndim != 1 or not real:
                kind = f"{leaf.dtype}{list(leaf.shape)}"
                return (
                    f"a row of its {what} is no vector of float32 or narrower, but {kind}"
                )
    return None


def _in_rows(call: Call) -> Call:
    """The call with the us for inputs, and all batch axes as one."""
    batch = jax.tree.leaves(call.carry)[0].ndim - 1

    def flat(a: Array, lead: int, *last: int) -> Array:
        return a.reshape(*a.shape[:lead], -1, *(last or a.shape[lead + batch :]))

    def flags(a: Array | None) -> Array | None:
        return None if a is None else flat(a, 1, 1)

    start, carry = jax.tree.map(partial(flat, lead=0), (call.start, call.carry))
    us = jax.tree.map(partial(flat, lead=1), project(call))
    flagged = {"mask": flags(call.mask), "reset": flags(call.reset)}
    return call.replace(start=start, carry=carry, inputs=us, **flagged)


def _kept(step: Step, shared: Any, carry: Any, inputs: Any) -> tuple[Any, Any]:
    """The carry after a step, and (y, the carry before it, r)."""
    (weights, start), (u, valid, begin) = shared, inputs
    carry = carry if begin is None else select(begin, start, carry)
    r = step.mix(weights, carry)
    after, y = step.gate(weights, carry, u, r)
    y = select(valid, y, jnp.zeros_like(y))
    return select(valid, after, carry), (y, carry, r)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _recur(
    how: Resident, step: Step, reverse: bool, over_all: OverAll
) -> tuple[Any, Array]:
    def forth(shared: Any, carry: Any, inputs: Any) -> tuple[Any, Array]:
        after, (y, _, _) = _kept(step, shared, carry, inputs)
        return after, y

    return how.loop(forth, *over_all.forwards, reverse)


def _forward(how, step, reverse, over_all):
    last, (ys, *kept) = how.loop(partial(_kept, step), *over_all.forwards, reverse)
    return (last, ys), (over_all, *kept)


def _backward(how, step, reverse, residuals, cotangents):
    (weights, start, _, us, mask, reset), carries, rs = residuals
    last_bar, ys_bar = cotangents
    ys_bar = select(mask, ys_bar, jnp.zeros_like(ys_bar))

    def gates(weights):
        return step.gate(weights, carries, us, rs)

    by_gate = depends(gates, weights)

    def back(weights, bars, inputs):
        (after_bar, start_bar), (y_bar, carry, u, r, valid, begin) = bars, inputs
        none = jax.tree.map(jnp.zeros_like, after_bar)
        held_bar = none if valid is None else select(valid, none, after_bar)
        after_bar = select(valid, after_bar, none)
        _, through_gate = jax.vjp(partial(step.gate, weights), carry, u, r)
        carry_bar, u_bar, r_bar = through_gate((after_bar, y_bar))
        _, through_mix = jax.vjp(partial(step.mix, weights), carry)
        carry_bar = _add(carry_bar, *through_mix(r_bar), held_bar)
        if begin is not None:
            start_bar = _add(start_bar, select(begin, carry_bar, none))
            carry_bar = select(begin, none, carry_bar)
        after_bar = jax.tree.map(lambda yes, a: a if yes else None, by_gate[0], after_bar)
        return (carry_bar, start_bar), (u_bar, r_bar, after_bar)

    bars = last_bar, jax.tree.map(jnp.zeros_like, start)
    per_step = ys_bar, carries, us, rs, mask, reset
    bars, (us_bar, rs_bar, after_bars) = how.loop(
        back, weights, bars, per_step, not reverse
    )
    carry_bar, start_bar = bars

    def mixed(weights):
        return for_all_steps(step.mix)(weights, carries)

    (weights_bar,) = jax.vjp(mixed, weights)[1](rs_bar)
    if any(jax.tree.leaves(by_gate)):
        after_bars = jax.tree.map(
            lambda bar, c: jnp.zeros_like(c) if bar is None else bar,
            after_bars,
            carries,
            is_leaf=lambda bar: bar is None,
        )
        weights_bar = _add(weights_bar, *jax.vjp(gates, weights)[1]((after_bars, ys_bar)))
    return (OverAll(weights_bar, start_bar, carry_bar, us_bar, None, None),)


_recur.defvjp(_forward, _backward)


def _add(first: Any, *others: Any) -> Any:
    return jax.tree.map(lambda a, *more: sum(more, a), first, *others)

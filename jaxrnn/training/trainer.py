"""How a problem is learned: one update, compiled, over a mesh of any number of devices."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh

from jaxrnn.strategies import over_devices
from jaxrnn.training.averages import Averaging
from jaxrnn.training.descent import descent
from jaxrnn.training.evaluation import evenly, share_of, watched
from jaxrnn.training.guard import all_finite, guarded
from jaxrnn.training.leaves import Leaf, key_impl
from jaxrnn.training.mesh import (
    DATA,
    MODEL,
    Spec,
    automatic,
    cut_evenly,
    everywhere,
    make_mesh,
    place,
    place_rows,
    placed_like,
    placements,
    put_together,
    rows_here,
    shardings,
    spread,
    where_even,
)
from jaxrnn.training.problem import Problem, Sum
from jaxrnn.training.products import MatmulPrecision, multiplying
from jaxrnn.training.state import Evaluations, TrainState, upgrade


@dataclass(frozen=True, eq=False)
class Trainer:
    """How `problem` is learned: the optimiser, the devices, the guard, the averages.

    transform: an optimiser of Optax.
    schedule: the learning rate in `transform` by updates done, where it is to be told.
    plateau: scales the updates down when evaluations no longer get better.
    mesh: the devices, along "data" for the rows of a batch and "model" for the units of
        cells; all along "data" unless given. `step` does not know how many there are.
    halt_after: steps in a row with numbers not finite after which the state is frozen.
    average: the decay a step of averages of the params, 0 for none, in which where training
        began has no part (see `Averaging`).
    average_after: their mean instead, over the updates since an evaluation was worse than
        the best of those before the last so many (NT-ASGD: Merity et al. 2018); over all
        updates if 0, and None for no such mean.
    accumulate: the parts that a batch is learned from in, one after the other; loss and
        gradient are the means of theirs, each as the problem's `weight` says.
    eval_batches: the batches that an evaluation measures, at most; None for all.
    matmul_precision: of the products of float32 matrices: "default" as JAX is set, "high"
        or "highest".
    fsdp: keep params, optimiser and averages in parts on all devices (Rajbhandari et al.
        2020), not along "model" alone; put together once a step, before the loops.

    Rows that do not divide over the devices are shared all the same, with the numbers of
    one device; every process then makes the whole batch, and every device takes it whole.

    Raises ValueError for numbers out of range, and for rows that are no `accumulate` equal
    parts.
    """

    problem: Problem
    transform: optax.GradientTransformation
    schedule: optax.Schedule | None = None
    plateau: optax.GradientTransformationExtraArgs | None = None
    mesh: Mesh = field(default_factory=make_mesh)
    halt_after: int = 1
    average: float = 0.0
    accumulate: int = 1
    eval_batches: int | None = None
    fsdp: bool = False
    average_after: int | None = None
    matmul_precision: MatmulPrecision = "default"
    averaging: Averaging = field(init=False)

    def __post_init__(self) -> None:
        for name in ("halt_after", "accumulate", "eval_batches"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        object.__setattr__(self, "averaging", Averaging(self.average, self.average_after))
        object.__setattr__(self, "mesh", automatic(self.mesh))
        rows = self.problem.rows
        if rows % self.accumulate:
            raise ValueError(f"a batch of {rows} rows has no {self.accumulate} equal parts")
        if rows < 1:
            raise ValueError(f"a batch must have 1 row or more, got {rows}")

    def init(self, seed: int, params: Any = None) -> TrainState:
        """The state before the first step, made where it lies on the mesh; with `params`
        in place of those that the problem draws, where some are given."""
        return jax.jit(
            lambda params: self._create(jax.random.key(seed), params),
            out_shardings=placements(self.like),
        )(params)

    @cached_property
    def like(self) -> TrainState:
        """The shapes, dtypes and shardings of a state, without its numbers."""
        state = jax.eval_shape(lambda: self._create(jax.random.key(0)))
        kept = cut_evenly(self.mesh, *((MODEL, DATA) if self.fsdp else (MODEL,)))
        specs: dict[str, Spec] = {"params": kept, "opt_state": kept, "averages": kept}
        specs["carry"] = where_even(self.problem.carry_spec, self.mesh)
        return TrainState(
            **{
                name: placed_like(part, specs.get(name, everywhere), self.mesh)
                for name, part in state._asdict().items()
            }
        )

    def batch(self, step: int) -> Any:
        """The batch of step `step`, from 0 on, on the devices."""
        rows = self._rows_here
        return place_rows(
            self.problem.batch(step, rows),
            rows,
            self.problem.rows,
            self.problem.batch_spec,
            self.mesh,
        )

    def step(self, state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        """(state, metrics) after learning from `batch`, as `batch(step)` gives it.

        The memory of the state passed in is given to the state returned. Metrics: those of
        the problem, the batch's `loss` and `gradient_norm` (before any clipping), both
        before the update, the `learning_rate` of the update where it is known, and
        `finite`.

        A step whose loss, gradient, update or carry is not finite changes neither params,
        optimiser, averages nor carry: it is counted, and `finite` is False. After
        `halt_after` of them in a row nothing changes any more, not even `step`: the state
        waits for whoever decides what to do.
        """
        return self._step(state, batch)

    def measures(self, split: str) -> bool:
        """Whether there is anything to measure on "valid" or "test".

        Raises ValueError for batches that are no list, such as a generator.
        """
        batches = self.problem.evaluation(split)
        if batches is not None and not hasattr(batches, "__getitem__"):
            raise ValueError(f"evaluation gives a list of batches or None, got {batches!r}")
        return batches is not None

    def evaluate(self, state: TrainState, split: str) -> dict[str, float]:
        """The figures of a state's averages, or params, on "valid" or "test"."""
        return self.measure(state.evaluated_params, split)

    def measure(self, params: Any, split: str) -> dict[str, float]:
        """The figures of `params` on "valid" or "test", nothing where that is not there.

        Of `eval_batches` the figures come with the `share` of the batches that they were
        measured on: the first ones where a carry goes from one to the next, else evenly
        spaced ones.
        """
        batches = self.problem.evaluation(split)
        if batches is None:
            return {}
        carry = self.problem.evaluation_carry(params)
        carry = place(carry, self.problem.carry_spec, self.mesh)
        chosen = evenly(range(len(batches)), self.eval_batches)
        if jax.tree.leaves(carry):
            chosen = range(len(chosen))
        totals: dict[str, Any] = {}
        for number in watched(chosen, len(chosen)):
            batch = place(batches[number], self.problem.batch_spec, self.mesh)
            sums, carry = self._measure(params, carry, batch)
            # On the host: no batch is begun before the one before it is done.
            for name, (total, count) in sums.items():
                before, counted = totals.get(name, (0.0, 0.0))
                total = before + np.asarray(total, np.float64)
                totals[name] = total, counted + float(count)
        loss_first = sorted(totals, key=lambda name: (name != "loss", name))
        means = {name: totals[name][0] / totals[name][1] for name in loss_first}
        return self.problem.figures(means) | share_of(len(chosen), len(batches))

    def after_evaluation(self, state: TrainState, loss: float) -> TrainState:
        """The state after an evaluation at this step that came to `loss`: what is best so
        far, and the learning rate and the averages where evaluations decide them."""
        evaluations = state.evaluations.after(loss, state.step, state.updates, self.plateau)
        return state._replace(evaluations=evaluations)

    @property
    def tokens_per_step(self) -> int:
        return self.problem.tokens_per_step or self.problem.rows

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the bits of a state rest on beside the options."""
        state = self.like
        averages = {"average_from": "first update"} if self.average else {}
        return {
            "key_implementation": str(key_impl(state.key)),
            "enable_x64": jax.config.read("jax_enable_x64"),  # noise is drawn otherwise
            "dtypes": sorted({str(leaf.dtype) for leaf in jax.tree.leaves(state.params)}),
        } | averages

    def upgrade(self, leaves: dict[str, Leaf]) -> dict[str, Leaf]:
        """The leaves of a state by path, from those that an older version saved."""
        return upgrade(leaves)

    @cached_property
    def _step(self) -> Any:
        lie = placements(self.like), None
        update = multiplying(self.matmul_precision, self._update)
        return jax.jit(update, donate_argnums=0, out_shardings=lie)

    @cached_property
    def _measure(self) -> Any:
        # The carry where it came from, so that all batches share one program.
        carry = jax.eval_shape(self.problem.evaluation_carry, self.like.params)
        lies = where_even(self.problem.carry_spec, self.mesh)
        carry = shardings(carry, lies, self.mesh)

        def measure(params: Any, carry: Any, batch: Any) -> tuple[dict[str, Sum], Any]:
            with over_devices(self.mesh):
                carry = spread(carry, self.problem.carry_spec, self.mesh)
                batch = spread(batch, self.problem.batch_spec, self.mesh)
                return self.problem.measure(self._whole(params), carry, batch)

        measure = multiplying(self.matmul_precision, measure)
        return jax.jit(measure, out_shardings=(None, carry))

    @cached_property
    def _rows_here(self) -> np.ndarray:
        return rows_here(self.problem.rows, self.mesh)

    def _whole(self, params: Any) -> Any:
        """The params as the loss takes them: in parts along MODEL alone."""
        return put_together(params, self.mesh) if self.fsdp else params

    def _create(self, key: Array, params: Any = None) -> TrainState:
        drawn, carry = self.problem.init(key)
        params = drawn if params is None else params
        return self._begin(key, params, self.transform.init(params), carry)

    def _begin(self, key: Array, params: Any, opt_state: Any, carry: Any) -> TrainState:
        return TrainState(
            step=jnp.int32(0),
            key=key,
            params=params,
            opt_state=opt_state,
            carry=carry,
            averages=self.averaging.start(params),
            evaluations=Evaluations.none(params, self.plateau, self.averaging.trigger()),
            skipped=jnp.int32(0),
            bad_in_row=jnp.int32(0),
        )

    def _update(self, state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)
        with over_devices(self.mesh):
            means, carry = descent(self.problem, self.accumulate, self.mesh)(
                self._whole(state.params), state.carry, batch, key
            )
        loss, metrics, gradients = means
        if self.fsdp:
            kept = placements(self.like.params)
            gradients = jax.lax.with_sharding_constraint(gradients, kept)
        scale = self.problem.rate(batch)
        if self.plateau is not None:
            scale = scale * state.evaluations.plateau.scale
        with jax.numpy_dtype_promotion("standard"):  # which Optax counts on
            updates, opt_state = self.transform.update(
                gradients, state.opt_state, state.params
            )
            if isinstance(scale, Array):
                updates = optax.tree.scale(scale, updates)
            if self.schedule is not None:
                rate = jnp.asarray(self.schedule(state.updates))
                metrics = metrics | {"learning_rate": rate * scale}
            params = optax.apply_updates(state.params, updates)
        averages = self.averaging.after(state, params)

        norm = optax.tree.norm(gradients)
        updated = state._replace(
            params=params, opt_state=opt_state, carry=carry, averages=averages
        )
        finite = all_finite((loss, norm, updates, carry))
        told = {"loss": loss, "gradient_norm": norm, "finite": finite}
        return guarded(state, updated, finite, self.halt_after), metrics | told

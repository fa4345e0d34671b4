"""The programs of a training run, lowered for the chips of a TPU that is only described."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from jaxrnn.models import Sampling, sample
from jaxrnn.training import Trainer
from jaxrnn.training.mesh import DATA, MODEL, everywhere, placed_like

from ...language_model.problem import NextToken
from ...long_lag.trials import AT_ONCE, Trials

PROMPT, WRITTEN = 16, 200

Programs = Iterator[tuple[str, Callable[[], Any]]]  # a name, and what lowers it


def describe(topology: str) -> Any:
    """The devices of "v5e:2x2"; needs libtpu, and no TPU."""
    return topologies.get_topology_desc(topology, platform="tpu").devices


def spread(trainer: Trainer, devices: Any, model: int = 1) -> Trainer:
    """The trainer over as many of the devices, `model` for each share of the rows, as can
    share its rows evenly."""

    rows = trainer.problem.rows // trainer.accumulate
    cut = DATA in tuple(trainer.problem.batch_spec(np.arange(rows)))
    counts = range(1, len(devices) // model + 1)
    count = max(count for count in counts if not cut or rows % count == 0)
    shape = np.array(devices[: count * model]).reshape(count, model)
    mesh = Mesh(shape, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)
    return replace(trainer, mesh=mesh)


def programs(trainer: Trainer) -> Programs:
    """The step, the evaluation and, of a language model, the sampler."""
    # The trainer's own compiled functions, not wrapped: so they are as in training.
    problem, mesh, state = trainer.problem, trainer.mesh, trainer.like
    batch = problem.batch(0, np.arange(problem.rows))
    batch = placed_like(batch, problem.batch_spec, mesh)
    yield "step", lambda: trainer._step.lower(state, batch)

    params = state.evaluated_params
    if isinstance(trainer, Trials):
        key = jax.eval_shape(lambda: jax.random.key(0))
        count = min(AT_ONCE, trainer.problem.config.test_sequences)
        examples = jax.eval_shape(lambda key: trainer._draw(key, count), key)
        examples = placed_like(examples, everywhere, mesh)
        yield "evaluation", lambda: trainer._examine.lower(params, examples)
        return
    batches = problem.evaluation("valid")
    assert batches is not None
    longest = placed_like(batches[len(batches) - 1], problem.batch_spec, mesh)
    carry = jax.eval_shape(problem.evaluation_carry, params)
    carry = placed_like(carry, problem.carry_spec, mesh)
    yield "evaluation", lambda: trainer._measure.lower(params, carry, longest)

    if isinstance(problem, NextToken) and problem.config.cell != "transformer":

        def write(params: Any, prompt: Any, key: Any) -> Any:
            model: Any = problem.model(params)
            return sample(model, prompt, WRITTEN, key, Sampling(0.7))

        params = placed_like(params, everywhere, mesh)  # as a run that is opened again
        prompt = placed_like(jax.ShapeDtypeStruct((PROMPT, 1), jnp.int32), everywhere, mesh)
        yield "sampler", lambda: jax.jit(write).lower(params, prompt, state.key)

"""Training with the work and the state in parts: run by tests/test_mesh.py in a process
of its own, because the number of devices is fixed once JAX has begun."""

import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from sharded import collectives, loops

from experiments.language_model.config import PRESETS
from experiments.language_model.problem import make_problem
from jaxrnn.training.mesh import DATA, MODEL

LAYERS = 2
OF_H = [["all-gather"]] * LAYERS + [["reduce-scatter"]] * LAYERS  # in the loops and back
MESHES = [  # (data, model, fsdp)
    (8, 1, True),
    (4, 2, True),
    (2, 4, False),
]
UNEVEN = {"batch_size": 6}


def make_trainer(text: Path, data: int, model: int, fsdp: bool, **changes):
    config = replace(
        PRESETS["tiny"][1],
        **changes,
        data=text,
        layers=LAYERS,
        hidden_size=32,
        embedding_size=16,
        optimiser="adamw",
        average=0.9,
    )
    devices = np.array(jax.devices()[: data * model]).reshape(data, model)
    mesh = Mesh(devices, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)
    return replace(config.make_trainer(make_problem(config)), mesh=mesh, fsdp=fsdp)


def train(trainer):
    state, losses = trainer.init(0), []
    for step in range(6):
        state, metrics = trainer.step(state, trainer.batch(step))
        losses.append(float(metrics["loss"]))
    return state, [*losses, trainer.evaluate(state, "valid")["loss"]]


def bytes_a_device(state):
    leaves = jax.tree.leaves((state.params, state.opt_state, state.averages))
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)


def main(text: Path) -> None:
    whole, want = train(make_trainer(text, 1, 1, fsdp=False))
    for data, model, fsdp in MESHES:
        trainer = make_trainer(text, data, model, fsdp)
        state, losses = train(trainer)
        np.testing.assert_allclose(losses, want, atol=1e-5)
        assert jax.tree.all(jax.tree.map(lies_as, state, trainer.like))
        parts = data * model if fsdp else model
        assert bytes_a_device(state) < 1.05 * bytes_a_device(whole) / parts
        if data * model > 1:
            program = trainer._step.lower(state, trainer.batch(0)).compile().as_text()
            assert "all-reduce" in program
            exchanges = map(collectives, loops(program))
            assert sorted(filter(None, exchanges)) == (OF_H if model > 1 else [])
    rows_that_do_not_divide(text)


def rows_that_do_not_divide(text: Path) -> None:
    """Six of them over four devices."""
    _, want = train(make_trainer(text, 1, 1, fsdp=False, **UNEVEN))
    trainer = make_trainer(text, 4, 2, fsdp=True, **UNEVEN)
    state, losses = train(trainer)
    np.testing.assert_allclose(losses, want, atol=1e-5)
    assert jax.tree.all(jax.tree.map(lies_as, state, trainer.like))
    program = trainer._step.lower(state, trainer.batch(0)).compile().as_text()
    exchanges = map(collectives, loops(program))
    assert sorted(filter(None, exchanges)) == OF_H


def lies_as(leaf, like):
    return leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""From a config to candidates, their optimiser, their loss and their evaluation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from experiments.music.candidates import (
    add_noise,
    best_of,
    draw_factors,
    for_each,
    guarded,
    left_out,
    mean_of_finite,
)
from experiments.music.config import Config
from experiments.music.pieces import KEYS, Pieces, cut, marginal_nats, read_splits
from jaxrnn.data.buckets import Buckets, Rows, edges_for, pad
from jaxrnn.data.files import digest
from jaxrnn.models import SequenceModel
from jaxrnn.models.cells import make_cell
from jaxrnn.training.evaluation import evenly, share_of, watched
from jaxrnn.training.optimiser import Optimiser
from jaxrnn.training.state import TrainState
from jaxrnn.training.step import make_mesh, make_train_step, place_batch
from jaxrnn.training.task import Task


class Batch(NamedTuple):
    """Frames that predict the one after them, and those to be predicted."""

    inputs: Any  # [T, B, 88] uint8
    targets: Any  # [T, B, 88] uint8
    mask: Any  # [T, B] bool  False past the end of a piece


def make_task(config: Config) -> Task:
    """Learning to predict the next frame; raises ValueError if something is off."""
    if config.weight_noise < 0:
        raise ValueError(f"weight_noise must be 0 or more, got {config.weight_noise}")
    splits = read_splits(config.data)
    parts = cut(splits["train"], config.sequence_length)
    edges = edges_over([parts, splits["valid"], splits["test"]])
    buckets = make_buckets(parts, config.batch_size, edges, config.seed)
    optimiser = make_optimiser(config)
    graph, state = initial_state(config)
    measure = make_measure(graph)
    batches = {
        name: all_batches(splits[name], config.batch_size, edges, config.eval_batches)
        for name in ("valid", "test")
    }
    shares = {
        name: share_of(frames_of(batches[name]), sum(len(p) - 1 for p in splits[name]))
        for name in batches
    }
    baseline = {name: marginal_nats(splits["train"], splits[name]) for name in batches}

    def evaluate(params: Any) -> dict[str, float]:
        losses = measure(params, batches["valid"])
        rates = config.learning_rate * factors_of(config)
        best = best_of(losses)
        figures = {
            "loss": float(losses[best]),
            "baseline": baseline["valid"],
            "learning_rate": float(rates[best]),
        }
        return figures | left_out(losses, rates) | shares["valid"]

    def test(params: Any) -> dict[str, float]:
        best = best_of(measure(params, batches["valid"]))
        losses = measure(params, batches["test"])
        figures = {"loss": float(losses[best]), "baseline": baseline["test"]}
        return figures | shares["test"]

    return Task(
        state=state,
        train_step=make_train_step(
            make_loss(graph, config),
            optimiser,
            halt_after=config.halt_after,
            average=config.average,
        ),
        batch=lambda step: as_batch(parts, buckets.batch(step)),
        evaluate=evaluate,
        test=test,
        unit="nats/frame",
        tokens_per_step=sum(len(part) - 1 for part in parts) // buckets.steps_per_epoch,
        plateau=optimiser.plateau,
        fingerprint={"data_sha256": data_digest(splits)},
    )


def make_model(config: Config, key: Array) -> SequenceModel:
    layers, width = [], KEYS
    for _ in range(config.layers):
        layers.append(make_cell(config.cell, width, config.hidden_size))
        width = layers[-1].output_size
    rngs = nnx.Rngs(params=key)
    return SequenceModel(layers, KEYS, dropout=config.dropout, rngs=rngs)


def factors_of(config: Config) -> np.ndarray:
    return draw_factors(config.candidates, config.rate_spread, config.seed)


def make_optimiser(config: Config) -> Optimiser:
    return for_each(config.make_optimiser(), factors_of(config))


def initial_state(config: Config) -> tuple[nnx.GraphDef, TrainState]:
    graph, params = initial_params(config)
    optimiser = make_optimiser(config)
    return graph, TrainState.create(
        params, optimiser, (), config.seed, average=config.averages
    )


def initial_params(config: Config) -> tuple[nnx.GraphDef, Any]:
    """The model without its parameters, and those of each candidate, `[C, ...]`."""
    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    graph = nnx.split(make_model(config, key))[0]
    keys = jax.random.split(key, config.candidates)
    return graph, jax.vmap(lambda key: nnx.split(make_model(config, key))[1])(keys)


def make_loss(graph: nnx.GraphDef, config: Config):
    """Mean nats a frame of a batch, over all candidates; pure in `params`."""

    def loss(params: Any, carry: Any, batch: Batch, key: Array) -> tuple[Array, Any]:
        frames = jnp.sum(batch.mask, dtype=jnp.float32)

        def one(params: Any, key: Array) -> Array:
            noise_key, dropout_key = jax.random.split(key)
            if config.weight_noise:
                params = add_noise(params, noise_key, config.weight_noise)
            model = nnx.merge(graph, params)
            return _nats(model, batch, dropout_key) / frames

        keys = jax.random.split(key, config.candidates)
        return mean_of_finite(jax.vmap(one)(guarded(params), keys)), carry

    return loss


def make_measure(graph: nnx.GraphDef) -> Callable[[Any, Sequence[Batch]], np.ndarray]:
    """Returns `measure(params, batches)`: `[C]` nats a frame of each candidate.

    A frame is predicted from all before it, and those of all pieces weigh the same. The
    first of a piece, which nothing precedes, is not scored (as Bai et al. 2018 do it).
    """

    @jax.jit
    def total(params: Any, batch: Batch) -> Array:
        return jax.vmap(lambda one: _nats(nnx.merge(graph, one), batch, None))(params)

    def measure(params: Any, batches: Sequence[Batch]) -> np.ndarray:
        nats = [
            # On the host: no batch is begun before the one before it is done.
            np.asarray(total(params, batch), np.float64)
            for batch in watched(batches, len(batches))
        ]
        return np.sum(nats, axis=0) / frames_of(batches)

    return measure


def frames_of(batches: Sequence[Batch]) -> int:
    """The frames to be predicted in them."""
    return sum(int(batch.mask.sum()) for batch in batches)


def edges_over(splits: Sequence[Pieces]) -> tuple[int, ...]:
    """One ladder of padded lengths for all splits, so that they share programs."""
    lengths = [len(piece) for pieces in splits for piece in pieces]
    return edges_for(np.array(lengths), growth=1.6, shortest=32)


def make_buckets(
    pieces: Pieces, batch_size: int, edges: tuple[int, ...], seed: int = 0
) -> Buckets:
    return Buckets(np.array([len(piece) for piece in pieces]), batch_size, edges, seed)


def all_batches(
    pieces: Pieces, batch_size: int, edges: tuple[int, ...], limit: int | None = None
) -> Sequence[Batch]:
    """Every piece once, or `limit` batches of them, for evaluation, on the devices."""
    buckets, mesh = make_buckets(pieces, batch_size, edges), make_mesh()
    batches = evenly(list(buckets.in_order()), limit)
    return [place_batch(as_batch(pieces, rows), mesh) for rows in batches]


def as_batch(pieces: Pieces, rows: Rows) -> Batch:
    frames, mask = pad(pieces, rows)
    return Batch(frames[:-1], frames[1:], mask[1:])


def _nats(model: SequenceModel, batch: Batch, key: Array | None) -> Array:
    """The nats of all frames to be predicted, over all keys."""
    # A frame sees none after it, so the recurrence need not know where a piece ends.
    _, logits = model(batch.inputs.astype(jnp.float32), key=key)
    targets = batch.targets.astype(jnp.float32)
    nats = jnp.sum(optax.sigmoid_binary_cross_entropy(logits, targets), axis=-1)
    return jnp.sum(jnp.where(batch.mask, nats, 0))


def data_digest(splits: dict[str, Pieces]) -> str:
    return digest(
        {
            f"{name} {number}": piece.tobytes()
            for name, pieces in splits.items()
            for number, piece in enumerate(pieces)
        }
    )

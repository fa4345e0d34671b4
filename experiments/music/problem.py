"""Learning to predict the next frame of polyphonic music."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from jaxrnn.data.batches import Batches
from jaxrnn.data.buckets import Buckets, Rows, edges_for, pad
from jaxrnn.data.files import digest
from jaxrnn.models import Pure, SequenceModel
from jaxrnn.models.cells import make_layers
from jaxrnn.training.problem import Problem, Sum

from .candidates import add_noise, guarded, mean_of_finite
from .config import Config
from .pieces import KEYS, Pieces, cut, read_splits


class Batch(NamedTuple):
    """Frames that predict the one after them, and those to be predicted."""

    inputs: Any  # [T, B, 88] uint8
    targets: Any  # [T, B, 88] uint8
    mask: Any  # [T, B] bool  False past the end of a piece


class Music(Problem):
    """The nats of a frame, over all keys, given those before it, of several candidates.

    All candidates learn side by side: the leaves of the params are `[C, ...]`, and the loss
    is the mean over them. The first frame of a piece, which nothing precedes, is not scored
    (as Bai et al. 2018 do it).
    """

    unit = "nats/frame"
    opened_by = "experiments.music.run:Trained"

    def __init__(self, config: Config, splits: dict[str, Pieces]) -> None:
        self.config, self.splits = config, splits
        self.model = make_model(config)
        self.parts = cut(splits["train"], config.sequence_length)
        self.buckets = self._buckets(self.parts, config.seed)
        self.rows = config.batch_size
        frames = sum(len(part) - 1 for part in self.parts)
        self.tokens_per_step = frames // self.buckets.steps_per_epoch
        self.fingerprint = {"data_sha256": data_digest(splits)}

    def init(self, key: Array) -> tuple[Any, tuple]:
        keys = jax.random.split(jax.random.fold_in(key, 0), self.config.candidates)
        return jax.vmap(self.model.init)(keys), ()

    def loss(
        self, params: Any, carry: tuple, batch: Batch, key: Array | None
    ) -> tuple[Array, tuple, dict[str, Array]]:
        assert key is not None
        frames = jnp.sum(batch.mask, dtype=jnp.float32)

        def one(params: Any, key: Array) -> Array:
            noise_key, dropout_key = jax.random.split(key)
            if self.config.weight_noise:
                params = add_noise(params, noise_key, self.config.weight_noise)
            return _nats(self.model(params), batch, dropout_key) / frames

        keys = jax.random.split(key, self.config.candidates)
        losses = jax.vmap(one)(guarded(params), keys)
        return mean_of_finite(losses), carry, {}

    def weight(self, batch: Batch) -> Array:
        return jnp.sum(batch.mask, dtype=jnp.float32)

    def batch(self, step: int, rows: np.ndarray) -> Batch:
        return as_batch(self.parts, self.buckets.batch(step).part(rows))

    def evaluation(self, split: str) -> Sequence[Batch]:
        """Every piece once."""
        pieces = self.splits[split]
        order = list(self._buckets(pieces).in_order())
        return Batches(order, partial(as_batch, pieces))

    def measure(
        self, params: Any, carry: tuple, batch: Batch
    ) -> tuple[dict[str, Sum], tuple]:
        """`[C]` losses, of each candidate."""
        nats = jax.vmap(lambda one: _nats(self.model(one), batch, None))(params)
        return {"losses": (nats, jnp.sum(batch.mask))}, carry

    def figures(self, means: dict[str, np.ndarray]) -> dict[str, Any]:
        return dict(means)

    def _buckets(self, pieces: Pieces, seed: int = 0) -> Buckets:
        """One ladder of padded lengths for all pieces, so that they share programs."""
        evaluated = (self.splits[name] for name in ("valid", "test"))
        lengths = [len(piece) for some in (self.parts, *evaluated) for piece in some]
        edges = edges_for(np.array(lengths), growth=1.6, shortest=32)
        own = np.array([len(piece) for piece in pieces])
        return Buckets(own, self.config.batch_size, edges, seed)


def make_problem(config: Config) -> Music:
    """Learning to predict the next frame; raises ValueError if something is off."""
    if config.weight_noise < 0:
        raise ValueError(f"weight_noise must be 0 or more, got {config.weight_noise}")
    return Music(config, read_splits(config.data))


def make_model(config: Config) -> Pure[SequenceModel]:
    layers = make_layers(
        config.cell, config.layers, KEYS, config.hidden_size, precision=config.precision
    )
    return Pure(
        lambda key: SequenceModel(
            layers,
            KEYS,
            dropout=config.dropout,
            precision=config.precision,
            rngs=nnx.Rngs(params=key),
        )
    )


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

"""From a config to a model, its optimiser, its loss and its evaluation."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from experiments.sentiment.config import Config
from experiments.sentiment.data import CORPORA, Example
from jaxrnn import Bidirectional, VariationalDropout
from jaxrnn.data.buckets import Buckets, Rows, edges_for, pad
from jaxrnn.data.files import text_digest
from jaxrnn.data.tokenizer import Tokenizer
from jaxrnn.models import AttentionPooling, Classifier, LastPooling, MaxPooling
from jaxrnn.models.cells import make_cell
from jaxrnn.training.evaluation import evenly, share_of, watched
from jaxrnn.training.state import TrainState
from jaxrnn.training.step import (
    check_rows,
    make_mesh,
    make_train_step,
    place_batch,
)
from jaxrnn.training.task import Task


class Batch(NamedTuple):
    """Texts side by side; a column whose mask is False throughout holds none."""

    tokens: Any  # [T, B] int32
    mask: Any  # [T, B] bool
    labels: Any  # [B] int32


class Texts:
    """The examples of a split as numbers, in batches of similar length."""

    def __init__(self, examples: list[Example], tokenizer: Tokenizer, config: Config):
        self.tokens = [encode(tokenizer, text, config.longest) for text, _ in examples]
        self.labels = np.array([label for _, label in examples], np.int32)
        lengths = np.array([len(tokens) for tokens in self.tokens])
        self.buckets = Buckets(
            lengths, config.batch_size, edges_for(lengths, growth=1.6), config.seed
        )
        self.tokens_per_step = int(lengths.sum()) // self.buckets.steps_per_epoch

    def batch(self, step: int) -> Batch:
        return self.of(self.buckets.batch(step))

    def of(self, rows: Rows) -> Batch:
        return Batch(*pad(self.tokens, rows), self.labels[rows.indices])


def encode(tokenizer: Tokenizer, text: str, longest: int) -> np.ndarray:
    """The tokens `[t]` int32 that are read of a text in its normal form."""
    return tokenizer.encode(text.encode())[:longest].astype(np.int32)


def make_model(config: Config, tokenizer: Tokenizer, classes: int) -> Classifier:
    """Raises ValueError if the config names no cell or its sizes do not fit."""
    layers, width = [], config.embedding_size
    for _ in range(config.layers):
        layer = make_cell(config.cell, width, config.hidden_size)
        if config.recurrent_dropout:
            layer = VariationalDropout(layer, config.recurrent_dropout)
        layers.append(Bidirectional(layer, layer) if config.bidirectional else layer)
        width = layers[-1].output_size
    rngs = nnx.Rngs(params=jax.random.fold_in(jax.random.key(config.seed), 0))
    poolings = {
        "max": MaxPooling,
        "attention": lambda: AttentionPooling(width, config.hidden_size, rngs=rngs),
        "last": lambda: LastPooling(width // 2 if config.bidirectional else width),
    }
    return Classifier(
        tokenizer.size,
        config.embedding_size,
        layers,
        classes,
        pooling=poolings[config.pooling](),
        dropout=config.dropout,
        word_dropout=config.word_dropout,
        unknown=tokenizer.unknown,
        rngs=rngs,
    )


def initial_state(
    config: Config, tokenizer: Tokenizer, classes: int
) -> tuple[nnx.GraphDef, TrainState]:
    graph, params = nnx.split(make_model(config, tokenizer, classes))
    state = TrainState.create(
        params, config.make_optimiser(), (), config.seed, average=config.averages
    )
    return graph, state


def make_task(config: Config) -> Task:
    """Learning to tell the class of a sentence; raises ValueError if something is off."""
    check_rows(config.batch_size, make_mesh())
    corpus = CORPORA[config.corpus](config.data)
    learned = " ".join(text for text, _ in corpus.splits["train"])
    tokenizer = Tokenizer.of(config.tokens, learned.encode(), config.at_least)
    texts = {
        name: Texts(examples, tokenizer, config) for name, examples in corpus.splits.items()
    }
    graph, state = initial_state(config, tokenizer, len(corpus.labels))
    optimiser = config.make_optimiser()
    measure, limit = make_measure(graph), config.eval_batches
    return Task(
        state=state,
        train_step=make_train_step(
            make_loss(graph, config.l2),
            optimiser,
            halt_after=config.halt_after,
            average=config.average,
        ),
        batch=texts["train"].batch,
        evaluate=lambda params: measure(params, texts["valid"], limit),
        test=lambda params: measure(params, texts["test"], limit),
        unit="nats/sentence",
        decides="error",
        tokens_per_step=texts["train"].tokens_per_step,
        plateau=optimiser.plateau,
        fingerprint={
            "data_sha256": corpus.digest(),
            "tokenizer_sha256": text_digest(tokenizer.as_json()),
        },
        files={
            "tokenizer.json": tokenizer.as_json(),
            "labels.json": json.dumps(corpus.labels, ensure_ascii=False),
        },
    )


def make_loss(graph: nnx.GraphDef, l2: float = 0.0):
    """Mean nats a sentence of a batch; pure in `params`."""

    def loss(params: Any, carry: tuple, batch: Batch, key: Array) -> tuple[Array, tuple]:
        model = nnx.merge(graph, params)
        nats, _, there = _judge(model, batch, key)
        value = jnp.sum(nats) / jnp.sum(there, dtype=nats.dtype)
        if l2:
            squares = jax.tree.map(lambda leaf: jnp.sum(leaf**2), params)
            del squares["embedding"]
            value += l2 / 2 * sum(jax.tree.leaves(squares))
        return value, carry

    return loss


def make_measure(graph: nnx.GraphDef) -> Callable[..., dict[str, float]]:
    """Returns `measure(params, texts, limit=None)` over a whole split or `limit` batches:
    mean nats, the share of errors and the accuracy."""
    mesh = make_mesh()

    @jax.jit
    def sums(params: Any, batch: Batch) -> Array:
        nats, right, _ = _judge(nnx.merge(graph, params), batch, key=None)
        return jnp.stack([jnp.sum(nats), jnp.sum(right, dtype=nats.dtype)])

    def measure(params: Any, texts: Texts, limit: int | None = None) -> dict[str, float]:
        totals, there = np.zeros(2), 0
        batches = evenly(list(texts.buckets.in_order()), limit)
        for rows in watched(batches, len(batches)):
            batch = place_batch(texts.of(rows), mesh)
            totals += np.asarray(sums(params, batch), float)
            there += int(np.sum(rows.indices >= 0))
        nats, accuracy = (totals / there).tolist()
        figures = {"loss": nats, "error": 1 - accuracy, "accuracy": accuracy}
        return figures | share_of(there, len(texts.labels))

    return measure


def _judge(
    model: Classifier, batch: Batch, key: Array | None
) -> tuple[Array, Array, Array]:
    """`[B]` each: nats, whether the likeliest class is the right one, and whether there
    is a sentence at all; the first two are zero where there is none."""
    logits = model(batch.tokens, mask=batch.mask, key=key)
    there = jnp.any(batch.mask, axis=0)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    right = there & (jnp.argmax(logits, axis=-1) == batch.labels)
    return jnp.where(there, nats, 0), right, there

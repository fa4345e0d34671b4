"""Learning to tell the class of a sentence."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from jaxrnn import Bidirectional, Cell, Recurrence, VariationalDropout
from jaxrnn.data.batches import Batches
from jaxrnn.data.buckets import Buckets, Rows, edges_for, pad
from jaxrnn.data.files import read_json, text_digest
from jaxrnn.data.tokenizer import Tokenizer
from jaxrnn.models import AttentionPooling, Classifier, LastPooling, MaxPooling, Pure
from jaxrnn.models.cells import make_layers
from jaxrnn.training.problem import Problem, Sum
from jaxrnn.training.run.origin import taken_along, vocabulary_of

from .config import Config
from .data import Corpus, Example, read_corpus


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

    def batch(self, rows: Rows) -> Batch:
        return Batch(*pad(self.tokens, rows), self.labels[rows.indices])


def encode(tokenizer: Tokenizer, text: str, longest: int) -> np.ndarray:
    """The tokens `[t]` int32 that are read of a text in its normal form."""
    return tokenizer.encode(text.encode())[:longest].astype(np.int32)


class Sentiment(Problem):
    """The mean nats of a sentence's class; the share of wrong answers decides."""

    unit = "nats/sentence"
    decides = "error"
    opened_by = "experiments.sentiment.run:Trained"

    def __init__(self, config: Config, tokenizer: Tokenizer, corpus: Corpus) -> None:
        self.l2 = config.l2
        self.model = make_model(config, tokenizer, len(corpus.labels))
        self.texts = {
            name: Texts(examples, tokenizer, config)
            for name, examples in corpus.splits.items()
        }
        self.rows = config.batch_size
        self.tokens_per_step = self.texts["train"].tokens_per_step
        self.files = {
            "tokenizer.json": tokenizer.as_json(),
            "labels.json": json.dumps(corpus.labels, ensure_ascii=False),
        }
        self.fingerprint = {
            "data_sha256": corpus.digest(),
            "tokenizer_sha256": text_digest(tokenizer.as_json()),
        }

    def init(self, key: Array) -> tuple[Any, tuple]:
        return self.model.init(key), ()

    def loss(
        self, params: Any, carry: tuple, batch: Batch, key: Array | None
    ) -> tuple[Array, tuple, dict[str, Array]]:
        nats, _, there = _judge(self.model(params), batch, key)
        value = jnp.sum(nats) / jnp.sum(there, dtype=nats.dtype)
        if self.l2:
            squares = jax.tree.map(lambda leaf: jnp.sum(leaf**2), params)
            del squares["embedding"]
            value += self.l2 / 2 * sum(jax.tree.leaves(squares))
        return value, carry, {}

    def weight(self, batch: Batch) -> Array:
        return jnp.sum(jnp.any(batch.mask, axis=0), dtype=jnp.float32)

    def batch(self, step: int, rows: np.ndarray) -> Batch:
        texts = self.texts["train"]
        return texts.batch(texts.buckets.batch(step).part(rows))

    def evaluation(self, split: str) -> Sequence[Batch]:
        texts = self.texts[split]
        return Batches(list(texts.buckets.in_order()), texts.batch)

    def measure(
        self, params: Any, carry: tuple, batch: Batch
    ) -> tuple[dict[str, Sum], tuple]:
        nats, right, there = _judge(self.model(params), batch, None)
        count = jnp.sum(there)
        sums = {
            "loss": (jnp.sum(nats), count),
            "error": (jnp.sum(there & ~right), count),
            "accuracy": (jnp.sum(right), count),
        }
        return sums, carry


def make_problem(config: Config) -> Sentiment:
    """Learning to tell the class of a sentence; raises ValueError if something is off."""
    corpus = read_corpus(config)
    if (begun := vocabulary_of(config)) is not None:
        corpus = corpus.labelled_as(read_json(begun.path / "labels.json"))
    learned = " ".join(text for text, _ in corpus.splits["train"]).encode()
    taken: Any = taken_along(config, config.tokens)  # never of byte pairs
    tokenizer = taken or Tokenizer.of(config.tokens, learned, config.at_least)
    return Sentiment(config, tokenizer, corpus)


def make_model(config: Config, tokenizer: Tokenizer, classes: int) -> Pure[Classifier]:
    """Raises ValueError if the config names no cell or its sizes do not fit."""

    def around(layer: Cell) -> Recurrence:
        if config.recurrent_dropout:
            layer = VariationalDropout(layer, config.recurrent_dropout)
        return Bidirectional(layer, layer) if config.bidirectional else layer

    layers = make_layers(
        config.cell,
        config.layers,
        config.embedding_size,
        config.hidden_size,
        around,
        config.precision,
    )
    width = layers[-1].output_size

    def make(key: Array) -> Classifier:
        rngs = nnx.Rngs(params=jax.random.fold_in(key, 0))
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
            precision=config.precision,
            rngs=rngs,
        )

    return Pure(make)


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

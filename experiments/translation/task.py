"""From a config to a model, its loss and its evaluation."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from experiments.translation.config import Config
from experiments.translation.pairs import Pairs, read_pairs
from experiments.translation.vocabulary import BEGIN, Vocabulary
from jaxrnn.cell import Recurrence
from jaxrnn.compose import Bidirectional, Stack
from jaxrnn.data.buckets import Buckets, Rows, edges_for, pad
from jaxrnn.data.files import digest, read_json, text_digest
from jaxrnn.models.attention import (
    Additive,
    AttendAfter,
    AttendBefore,
    Multiplicative,
    Whole,
)
from jaxrnn.models.cells import make_cell
from jaxrnn.models.transformer import Transformer
from jaxrnn.models.translator import Translator, summary_size
from jaxrnn.training.evaluation import evenly, share_of, watched
from jaxrnn.training.state import TrainState
from jaxrnn.training.step import (
    check_rows,
    make_mesh,
    make_train_step,
    place_batch,
)
from jaxrnn.training.task import Task

Model = Translator | Transformer


class Languages(NamedTuple):
    """The vocabularies of both sides."""

    source: Vocabulary
    target: Vocabulary

    @classmethod
    def of(cls, config: Config, pairs: Pairs) -> "Languages":
        """Those of a training set."""
        if config.tokens == "word":
            least = config.min_frequency
            return cls(*(Vocabulary.of_words(side, least) for side in pairs))
        size = config.vocabulary_size
        return cls(*(Vocabulary.of_parts(side, size) for side in pairs))

    @classmethod
    def load(cls, path: Path) -> "Languages":
        """Raises ValueError if the file holds none."""
        stored = read_json(path)
        try:
            return cls(*(Vocabulary.from_json(stored[name]) for name in cls._fields))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{path} holds no vocabularies") from None

    def as_json(self) -> str:
        stored = {name: side.as_json() for name, side in self._asdict().items()}
        return json.dumps(stored, ensure_ascii=False)


A = TypeVar("A")  # np.ndarray on the host, jax.Array on the devices


class Batch(NamedTuple, Generic[A]):
    """Sentences beside their translations, one pair a column."""

    source: A  # [S, B] int32
    source_mask: A  # [S, B] bool
    target: A  # [T, B] int32
    target_mask: A  # [T, B] bool
    forced: A  # [B] float32  share of steps given the true word before


@dataclass(frozen=True, eq=False)
class Examples:
    """The pairs of one split as numbers, in batches."""

    source: list[np.ndarray]
    target: list[np.ndarray]
    buckets: Buckets

    @classmethod
    def of(
        cls, pairs: Pairs, languages: Languages, config: Config, longest: int | None
    ) -> "Examples":
        """Without the pairs that have a sentence of more than `longest` tokens."""
        source = [languages.source.encode(sentence) for sentence in pairs.source]
        target = [languages.target.encode(sentence) for sentence in pairs.target]
        lengths = np.maximum([len(side) for side in source], [len(side) for side in target])
        kept = np.flatnonzero(lengths <= (longest or np.inf))
        if not len(kept):
            raise ValueError(f"no pair of sentences has {longest} tokens or fewer")
        lengths = lengths[kept]
        buckets = Buckets(
            lengths, config.batch_size, edges_for(lengths, shortest=6), config.seed
        )
        return cls([source[n] for n in kept], [target[n] for n in kept], buckets)

    @property
    def tokens(self) -> int:
        """Of the target."""
        return sum(map(len, self.target))

    def batch(self, rows: Rows, forced: float = 1.0) -> Batch[np.ndarray]:
        share = np.full(len(rows.indices), forced, np.float32)
        return Batch(*pad(self.source, rows), *pad(self.target, rows), share)


def make_model(config: Config, languages: Languages) -> Model:
    """Raises ValueError if the config's parts do not fit."""
    rngs = nnx.Rngs(params=jax.random.fold_in(jax.random.key(config.seed), 0))
    sizes = languages.source.size, languages.target.size, config.embedding_size
    if config.model == "transformer":
        return Transformer(
            *sizes,
            layers=config.layers,
            heads=config.heads,
            feed_forward=config.feed_forward,
            dropout=config.dropout,
            rngs=rngs,
        )
    encoder = make_encoder(config)
    return Translator(
        *sizes,
        encoder,
        make_decoder(config, encoder),
        readout_size=config.readout_size,
        dropout=config.dropout,
        rngs=rngs,
    )


def make_encoder(config: Config) -> Recurrence:
    layers, width = [], config.embedding_size
    for _ in range(config.layers):
        cell = make_cell(config.cell, width, config.hidden_size)
        layers.append(Bidirectional(cell, cell))
        width = layers[-1].output_size
    return _stacked(layers)


def make_decoder(config: Config, encoder: Recurrence) -> Recurrence:
    memory, width = encoder.output_size, config.hidden_size
    if config.attention == "context":
        memory = summary_size(encoder)
    attention = {
        "additive": Additive(width, memory, config.attention_size),
        "multiplicative": Multiplicative(width, memory),
        "context": Whole(width, memory),
        "none": None,
    }[config.attention]
    fed = config.attention in ("additive", "context")
    inputs = config.embedding_size + (memory if fed else 0)
    layers = [make_cell(config.cell, inputs, width)]
    while len(layers) < config.layers:
        layers.append(make_cell(config.cell, width, width))
    cell = _stacked(layers)
    if attention is None:
        return cell
    return AttendBefore(cell, attention) if fed else AttendAfter(cell, attention)


def initial_state(config: Config, languages: Languages) -> tuple[nnx.GraphDef, TrainState]:
    graph, params = nnx.split(make_model(config, languages))
    optimiser = config.make_optimiser()
    state = TrainState.create(params, optimiser, (), config.seed, average=config.averages)
    return graph, state


def make_task(config: Config) -> Task:
    """Learning to translate; raises ValueError if something is off."""
    begun, ended = config.teacher_forcing
    if not (0 <= begun <= 1 and 0 <= ended <= 1):
        raise ValueError(
            f"teacher_forcing must be two shares in [0, 1], got {begun} and {ended}"
        )
    always_forced = begun == ended == 1
    if config.model == "transformer" and not always_forced:
        raise ValueError("a transformer learns with teacher_forcing 1 1 only")
    check_rows(config.batch_size, make_mesh())
    pairs = read_pairs(config.corpus, config.data)
    languages = Languages.of(config, pairs["train"])
    train = Examples.of(pairs["train"], languages, config, config.longest)
    valid = Examples.of(pairs["valid"], languages, config, None)
    test = Examples.of(pairs["test"], languages, config, None)
    graph, state = initial_state(config, languages)
    optimiser = config.make_optimiser()
    buckets = train.buckets
    measure, limit = make_measure(graph), config.eval_batches

    def batch(step: int) -> Batch[np.ndarray]:
        forced = begun + (ended - begun) * step / config.steps
        return train.batch(buckets.batch(step), forced)

    return Task(
        state=state,
        train_step=make_train_step(
            make_loss(graph, always_forced),
            optimiser,
            halt_after=config.halt_after,
            average=config.average,
        ),
        batch=batch,
        evaluate=lambda params: measure(params, valid, limit),
        test=lambda params: measure(params, test, limit),
        unit=unit(config),
        tokens_per_step=round(train.tokens / buckets.steps_per_epoch),
        plateau=optimiser.plateau,
        fingerprint={
            "data_sha256": data_digest(pairs),
            "tokenizer_sha256": text_digest(languages.as_json()),
        },
        files={"tokenizer.json": languages.as_json()},
    )


def make_loss(graph: nnx.GraphDef, always_forced: bool):
    """Mean nats a token of the target; pure in `params`."""

    def loss(params: Any, carry: Any, batch: Batch[Array], key: Array) -> tuple[Array, Any]:
        model = nnx.merge(graph, params)
        total, tokens = _nats(model, batch, key, always_forced)
        return total / tokens.astype(total.dtype), carry

    return loss


def make_measure(graph: nnx.GraphDef) -> Callable[..., dict[str, float]]:
    """Returns `measure(params, examples, limit=None)`: mean nats a token of the target,
    every word given the true words before it, over a whole split or `limit` batches."""
    mesh = make_mesh()

    @jax.jit
    def add(params: Any, batch: Batch[Array]) -> Array:
        return _nats(nnx.merge(graph, params), batch, None, True)[0]

    def measure(
        params: Any, examples: Examples, limit: int | None = None
    ) -> dict[str, float]:
        total, tokens = 0.0, 0
        batches = evenly(list(examples.buckets.in_order()), limit)
        for rows in watched(batches, len(batches)):
            batch = examples.batch(rows)
            total += float(add(params, place_batch(batch, mesh)))
            tokens += int(batch.target_mask.sum())
        return {"loss": total / tokens} | share_of(tokens, examples.tokens)

    return measure


def data_digest(pairs: Mapping[str, Pairs]) -> str:
    return digest({name: split.as_bytes() for name, split in pairs.items()})


def unit(config: Config) -> str:
    return "nats/word" if config.tokens == "word" else "nats/token"


def before_each(target: Array) -> Array:
    """What stands before each token of `[T, B]`: the mark of the beginning comes first."""
    return jnp.concatenate([jnp.full_like(target[:1], BEGIN), target[:-1]])


def _nats(
    model: Model, batch: Batch[Array], key: Array | None, always_forced: bool
) -> tuple[Array, Array]:
    """Their sum over the target's tokens, and how many those are."""
    tokens = before_each(batch.target)
    if always_forced:
        logits = model(batch.source, batch.source_mask, tokens, key=key)
    else:
        assert isinstance(model, Translator) and key is not None
        encode_key, decode_key, forced_key = jax.random.split(key, 3)
        encoded = model.encode(batch.source, batch.source_mask, key=encode_key)
        forced = jax.random.bernoulli(forced_key, batch.forced[0], (len(tokens),))
        logits = model.decode(encoded, tokens, key=decode_key, forced=forced)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.target)
    return jnp.sum(jnp.where(batch.target_mask, nats, 0)), jnp.sum(batch.target_mask)


def _stacked(layers: list) -> Recurrence:
    return layers[0] if len(layers) == 1 else Stack(tuple(layers))

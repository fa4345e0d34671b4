"""Learning to translate."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from jaxrnn.cell import Cell, Recurrence
from jaxrnn.compose import Bidirectional, Stack
from jaxrnn.data.batches import Batches
from jaxrnn.data.buckets import Buckets, Rows, edges_for, pad
from jaxrnn.data.files import digest, read_json, text_digest
from jaxrnn.data.vocabulary import BEGIN, Vocabulary
from jaxrnn.models.attention import (
    Additive,
    AttendAfter,
    AttendBefore,
    Multiplicative,
    Whole,
)
from jaxrnn.models.cells import make_layers
from jaxrnn.models.pure import Pure
from jaxrnn.models.transformer import Transformer
from jaxrnn.models.translator import Translator, summary_size
from jaxrnn.training.problem import Problem, Sum
from jaxrnn.training.run.origin import vocabulary_of

from .config import Config
from .pairs import Pairs, read_pairs

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


class Translation(Problem):
    """The mean nats a token of the target, given the true words before it or, while it
    learns, some of its own."""

    opened_by = "experiments.translation.run:Trained"

    def __init__(
        self, config: Config, languages: Languages, pairs: Mapping[str, Pairs]
    ) -> None:
        self.steps, self.teacher_forcing = config.steps, config.teacher_forcing
        self.model = make_model(config, languages)
        longest = {"train": config.longest, "valid": None, "test": None}
        self.examples = {
            name: Examples.of(pairs[name], languages, config, longest[name])
            for name in longest
        }
        train = self.examples["train"]
        self.rows = config.batch_size
        self.unit = "nats/word" if config.tokens == "word" else "nats/token"
        self.tokens_per_step = round(train.tokens / train.buckets.steps_per_epoch)
        self.files = {"tokenizer.json": languages.as_json()}
        self.fingerprint = {
            "data_sha256": data_digest(pairs),
            "tokenizer_sha256": text_digest(languages.as_json()),
        }

    def init(self, key: Array) -> tuple[Any, tuple]:
        return self.model.init(key), ()

    def loss(
        self, params: Any, carry: tuple, batch: Batch[Array], key: Array | None
    ) -> tuple[Array, tuple, dict[str, Array]]:
        forced = self.teacher_forcing == (1, 1)
        total, tokens = _nats(self.model(params), batch, key, forced)
        return total / tokens.astype(total.dtype), carry, {}

    def weight(self, batch: Batch[Array]) -> Array:
        return jnp.sum(batch.target_mask, dtype=jnp.float32)

    def batch(self, step: int, rows: np.ndarray) -> Batch[np.ndarray]:
        begun, ended = self.teacher_forcing
        forced = begun + (ended - begun) * step / self.steps
        train = self.examples["train"]
        return train.batch(train.buckets.batch(step).part(rows), forced)

    def evaluation(self, split: str) -> Sequence[Batch[np.ndarray]]:
        examples = self.examples[split]
        return Batches(list(examples.buckets.in_order()), examples.batch)

    def measure(
        self, params: Any, carry: tuple, batch: Batch[Array]
    ) -> tuple[dict[str, Sum], tuple]:
        return {"loss": _nats(self.model(params), batch, None, True)}, carry


def make_problem(config: Config) -> Translation:
    """Learning to translate; raises ValueError if something is off."""
    begun, ended = config.teacher_forcing
    if not (0 <= begun <= 1 and 0 <= ended <= 1):
        raise ValueError(
            f"teacher_forcing must be two shares in [0, 1], got {begun} and {ended}"
        )
    if config.model == "transformer" and not begun == ended == 1:
        raise ValueError("a transformer learns with teacher_forcing 1 1 only")
    pairs = read_pairs(config.corpus, config.data, config.backwards)
    languages = make_languages(config, pairs["train"])
    return Translation(config, languages, pairs)


def make_languages(config: Config, learned: Pairs) -> Languages:
    """Those that a run takes along, else those of the pairs that it learns from."""
    begun = vocabulary_of(config)
    if begun is None:
        return Languages.of(config, learned)
    languages = Languages.load(begun.tokenizer)
    tokens = "bpe" if languages.target.merges else "word"
    if tokens != config.tokens:
        raise ValueError(
            f"{config.init_from} has the tokens {tokens!r}: cannot begin with it and "
            f"--tokens {config.tokens}"
        )
    return languages


def make_model(config: Config, languages: Languages) -> Pure[Model]:
    """Raises ValueError if the config's parts do not fit."""
    return Pure(lambda key: make(config, languages, jax.random.fold_in(key, 0)))


def make(config: Config, languages: Languages, key: Array) -> Model:
    rngs = nnx.Rngs(params=key)
    sizes = languages.source.size, languages.target.size, config.embedding_size
    if config.model == "transformer":
        return Transformer(
            *sizes,
            layers=config.layers,
            heads=config.heads,
            feed_forward=config.feed_forward,
            dropout=config.dropout,
            precision=config.precision,
            rngs=rngs,
        )
    encoder = make_encoder(config)
    return Translator(
        *sizes,
        encoder,
        make_decoder(config, encoder),
        readout_size=config.readout_size,
        dropout=config.dropout,
        precision=config.precision,
        rngs=rngs,
    )


def make_encoder(config: Config) -> Recurrence:
    return _stacked(config, config.embedding_size, lambda cell: Bidirectional(cell, cell))


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
    cell = _stacked(config, inputs)
    if attention is None:
        return cell
    return AttendBefore(cell, attention) if fed else AttendAfter(cell, attention)


def data_digest(pairs: Mapping[str, Pairs]) -> str:
    return digest({name: split.as_bytes() for name, split in pairs.items()})


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


def _stacked(
    config: Config,
    input_size: int,
    around: Callable[[Cell], Recurrence] = lambda cell: cell,
) -> Recurrence:
    layers = make_layers(
        config.cell,
        config.layers,
        input_size,
        config.hidden_size,
        around,
        config.precision,
    )
    return layers[0] if len(layers) == 1 else Stack(tuple(layers))

"""Learning to predict the next token of a text."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from jaxrnn.data.files import digest, text_digest
from jaxrnn.data.lanes import TokenBatch, TokenLanes
from jaxrnn.data.tokenizer import Tokenizer
from jaxrnn.models import LanguageModel, Pure
from jaxrnn.models.cells import make_layers
from jaxrnn.strategies.select import select
from jaxrnn.training.problem import Problem, Sum
from jaxrnn.training.processes import is_first
from jaxrnn.training.run.origin import tokenizer_of

from .config import Config
from .prompt import read_prompt
from .text import read_splits


class NextToken(Problem):
    """The mean nats a token of a text read in lanes, the carry kept from batch to batch."""

    opened_by = "experiments.language_model.run:Trained"

    def __init__(
        self, config: Config, tokenizer: Tokenizer, splits: dict[str, bytes]
    ) -> None:
        self.model = make_model(config, tokenizer.size)
        self.lanes = {
            name: make_lanes(config, name, tokenizer.encode(text))
            for name, text in splits.items()
        }
        self.rows = config.batch_size
        self.unit = f"nats/{config.tokens}"
        self.tokens_per_step = config.batch_size * config.sequence_length
        self.files = {"tokenizer.json": tokenizer.as_json()}
        self.fingerprint = {
            "data_sha256": digest(splits),
            "tokenizer_sha256": text_digest(tokenizer.as_json()),
        }

    def init(self, key: Array) -> tuple[Any, Any]:
        params = self.model.init(key)
        return params, self.model(params).initial_carry((self.rows,))

    def loss(
        self, params: Any, carry: Any, batch: TokenBatch[Array], key: Array | None
    ) -> tuple[Array, Any, dict[str, Array]]:
        nats, carry = self._nats(params, carry, batch, key)
        return jnp.mean(nats), carry, {}

    def batch(self, step: int, rows: np.ndarray) -> TokenBatch[np.ndarray]:
        return self.lanes["train"].batch(step, rows)

    def evaluation(self, split: str) -> Sequence[TokenBatch[np.ndarray]] | None:
        """Every token once."""
        return self.lanes[split].every_token() if split in self.lanes else None

    def evaluation_carry(self, params: Any) -> Any:
        return self.model(params).initial_carry((self.rows,))

    def measure(
        self, params: Any, carry: Any, batch: TokenBatch[Array]
    ) -> tuple[dict[str, Sum], Any]:
        nats, carry = self._nats(params, carry, batch, None)
        total = jnp.sum(jnp.where(batch.mask, nats, 0))
        return {"loss": (total, jnp.sum(batch.mask))}, carry

    def _nats(
        self, params: Any, carry: Any, batch: TokenBatch[Array], key: Array | None
    ) -> tuple[Array, Any]:
        model = self.model(params)
        start = model.initial_carry(batch.fresh.shape)
        carry, logits = model(batch.inputs, select(batch.fresh, start, carry), key=key)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
        return nats, carry


def make_problem(config: Config) -> NextToken:
    """Learning to predict the text; raises ValueError if something is off."""
    splits = read_splits(config.data, config.split, config.tokens)
    tokenizer = tokenizer_of(config, config.tokens, splits["train"])
    check_sample(config, tokenizer)
    for name, text in splits.items():
        if (unseen := tokenizer.about_unseen(text)) and is_first():
            print(f"of the {name} text, {unseen}")
    return NextToken(config, tokenizer, splits)


def make_model(config: Config, vocabulary_size: int) -> Pure[LanguageModel]:
    """Raises ValueError if the config names no cell or its sizes do not fit."""
    layers = make_layers(
        config.cell,
        config.layers,
        config.embedding_size,
        config.hidden_size,
        precision=config.precision,
    )

    def make(key: Array) -> LanguageModel:
        model = LanguageModel(
            vocabulary_size,
            config.embedding_size,
            layers,
            dropout=config.dropout,
            dropout_over_time=config.dropout_over_time,
            tied=config.tied,
            precision=config.precision,
            rngs=nnx.Rngs(params=jax.random.fold_in(key, 0)),
        )
        if config.uniform_init is not None:
            draw_uniformly(model, config.uniform_init, jax.random.fold_in(key, 1))
        return model

    return Pure(make)


def draw_uniformly(model: LanguageModel, bound: float, key: Array) -> None:
    params = nnx.state(model, nnx.Param)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.uniform(key, leaf.shape, leaf.dtype, -bound, bound)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    nnx.update(model, jax.tree.unflatten(structure, drawn))


def check_sample(config: Config, tokenizer: Tokenizer) -> None:
    """Raises ValueError for a sample at the end that could not be written."""
    if config.sample_length < 0:
        raise ValueError(f"sample_length must be 0 or more, got {config.sample_length}")
    if config.sample_length:
        read_prompt(tokenizer, config.sample_prompt)


def make_lanes(config: Config, name: str, tokens: np.ndarray) -> TokenLanes:
    """Of the split `name`, which the ValueError names that a short one raises."""
    try:
        return TokenLanes(tokens, config.batch_size, config.sequence_length)
    except ValueError as error:
        source = config.data or "the standard library"
        raise ValueError(f"the {name} text of {source}: {error}") from None

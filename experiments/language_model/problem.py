"""Learning to predict the next token of a text."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn.data.lanes import TokenBatch, TokenLanes
from jaxrnn.data.shards import Tokens
from jaxrnn.data.subwords import AnyTokenizer
from jaxrnn.data.varied_lanes import VariedLanes
from jaxrnn.models import LanguageModel, Sampling
from jaxrnn.strategies.select import select
from jaxrnn.training.problem import Problem, Sum

from .config import Config
from .model import make_model
from .prompt import read_prompt, write
from .text import Text, read_tokens

SAMPLE = 200  # tokens at most of the sample with an evaluation


class NextToken(Problem):
    """The mean nats a token of a text read in lanes, the carry kept from batch to batch."""

    opened_by = "experiments.language_model.run:Trained"

    def __init__(self, config: Config, text: Text) -> None:
        self.config = config
        self.model = make_model(config, text.tokenizer.size)
        self.lanes = {
            name: make_lanes(config, name, tokens) for name, tokens in text.tokens.items()
        }
        self.rows = config.batch_size
        self.unit = f"nats/{'token' if config.tokens == 'bpe' else config.tokens}"
        self.tokens_per_step = config.batch_size * config.sequence_length
        self.tokenizer = text.tokenizer
        self.files = {"tokenizer.json": text.tokenizer.as_json()}
        self.fingerprint = text.fingerprint

    def init(self, key: Array) -> tuple[Any, Any]:
        params = self.model.init(key)
        return params, self.model(params).initial_carry((self.rows,))

    def loss(
        self, params: Any, carry: Any, batch: TokenBatch[Array], key: Array | None
    ) -> tuple[Array, Any, dict[str, Array]]:
        config = self.config
        carry, nats, ys, whole = self._read(params, carry, batch, key)
        loss = mean = self._mean(nats, batch)
        if config.activation_penalty:
            loss += config.activation_penalty * self._mean(jnp.mean(ys**2, -1), batch)
        if config.temporal_penalty:
            steps = jnp.mean((whole[1:] - whole[:-1]) ** 2, -1)
            later = batch._replace(mask=batch.mask[1:])
            loss += config.temporal_penalty * self._mean(steps, later)
        return loss, carry, {} if loss is mean else {"nats": mean}

    def rate(self, batch: TokenBatch[Array]) -> Array | int:
        if not self.config.varied_lengths:
            return 1
        return jnp.sum(batch.mask[:, 0], dtype=jnp.float32) / self.config.sequence_length

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
        carry, nats, *_ = self._read(params, carry, batch, None)
        return loss_of(nats, batch.mask), carry

    def sample(self, params: Any) -> str | None:
        """The text that the model goes on with from `sample_prompt`."""
        config, model = self.config, self.model(params)
        length = min(config.sample_length, SAMPLE)
        if not (length and isinstance(model, LanguageModel)):
            return None
        sampling = Sampling(temperature=0.7)
        prompt = config.sample_prompt
        return write(model, self.tokenizer, prompt, length, sampling, seed=config.seed)[0]

    def _read(
        self, params: Any, carry: Any, batch: TokenBatch[Array], key: Array | None
    ) -> tuple[Any, Array, Array, Array]:
        """(carry, nats, outputs of the last layer, those before their dropout)."""
        model = self.model(params)
        before = select(batch.fresh, model.initial_carry(batch.fresh.shape), carry)
        # A carry must not go on past the end of a batch that is filled up.
        held = {"mask": batch.mask} if self.config.varied_lengths else {}
        carry, ys, whole = model.outputs(batch.inputs, before, key=key, **held)
        logits = model.logits(ys)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
        return carry, nats, ys, whole

    def _mean(self, values: Array, batch: TokenBatch[Array]) -> Array:
        """Of values `[T, B]` the mean over the steps that are learned from."""
        if not self.config.varied_lengths:
            return jnp.mean(values)
        count = jnp.maximum(jnp.sum(batch.mask), 1).astype(values.dtype)
        return jnp.sum(jnp.where(batch.mask, values, 0)) / count


def loss_of(nats: Array, mask: Array) -> dict[str, Sum]:
    """The figure of an evaluation, of the steps in `mask`."""
    return {"loss": (jnp.sum(jnp.where(mask, nats, 0)), jnp.sum(mask))}


def make_problem(config: Config) -> NextToken:
    """Learning to predict the text; raises ValueError if something is off."""
    text = read_tokens(config)
    check_sample(config, text.tokenizer)
    return NextToken(config, text)


def check_sample(config: Config, tokenizer: AnyTokenizer) -> None:
    """Raises ValueError for a sample at the end that could not be written."""
    if config.sample_length < 0:
        raise ValueError(f"sample_length must be 0 or more, got {config.sample_length}")
    if config.sample_length:
        if config.cell == "transformer":
            raise ValueError(
                "a transformer keeps nothing from step to step and writes no text here: "
                "sample_length must be 0"
            )
        read_prompt(tokenizer, config.sample_prompt)


def make_lanes(config: Config, name: str, tokens: np.ndarray | Tokens) -> TokenLanes:
    """Of the split `name`, which the ValueError names that a short one raises."""
    try:
        if name == "train" and config.varied_lengths:
            size = config.batch_size, config.sequence_length
            return VariedLanes(tokens, *size, config.seed)
        return TokenLanes(tokens, config.batch_size, config.sequence_length)
    except ValueError as error:
        source = config.data or "the standard library"
        raise ValueError(f"the {name} text of {source}: {error}") from None

"""From a config to a model, its optimiser, its loss and its evaluation."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from experiments.language_model.config import Config
from experiments.language_model.prompt import read_prompt
from experiments.language_model.text import read_splits
from jaxrnn.data.files import digest, text_digest
from jaxrnn.data.lanes import TokenBatch, TokenLanes
from jaxrnn.data.tokenizer import Tokenizer
from jaxrnn.models import LanguageModel
from jaxrnn.models.cells import make_cell
from jaxrnn.strategies.select import select
from jaxrnn.training.evaluation import share_of, watched
from jaxrnn.training.processes import is_first
from jaxrnn.training.state import TrainState
from jaxrnn.training.step import (
    carry_sharding,
    make_mesh,
    make_train_step,
    place_batch,
    place_carry,
)
from jaxrnn.training.task import Task


def make_model(config: Config, vocabulary_size: int) -> LanguageModel:
    """Raises ValueError if the config names no cell or its sizes do not fit."""
    layers, width = [], config.embedding_size
    for _ in range(config.layers):
        layers.append(make_cell(config.cell, width, config.hidden_size))
        width = layers[-1].output_size
    model = LanguageModel(
        vocabulary_size,
        config.embedding_size,
        layers,
        dropout=config.dropout,
        dropout_over_time=config.dropout_over_time,
        tied=config.tied,
        rngs=nnx.Rngs(params=jax.random.fold_in(jax.random.key(config.seed), 0)),
    )
    if config.uniform_init is not None:
        _draw_uniformly(model, config.uniform_init, config.seed)
    return model


def initial_state(config: Config, vocabulary_size: int) -> tuple[nnx.GraphDef, TrainState]:
    graph, params = nnx.split(make_model(config, vocabulary_size))
    carry = nnx.merge(graph, params).initial_carry((config.batch_size,))
    state = TrainState.create(
        params,
        config.make_optimiser(),
        carry,
        config.seed,
        average=config.averages,
    )
    return graph, state


def make_task(config: Config) -> Task:
    """Learning to predict the text; raises ValueError if something is off."""
    splits = read_splits(config.data, config.split, config.tokens)
    tokenizer = Tokenizer.of(config.tokens, splits["train"])
    check_sample(config, tokenizer)
    lanes = {
        name: make_lanes(config, name, tokenizer.encode(text))
        for name, text in splits.items()
    }
    for name, text in splits.items():
        if (unseen := tokenizer.about_unseen(text)) and is_first():
            print(f"of the {name} text, {unseen}")
    graph, state = initial_state(config, tokenizer.size)
    optimiser = config.make_optimiser()
    measure, limit = make_measure(graph), config.eval_batches
    return Task(
        state=state,
        train_step=make_train_step(
            make_loss(graph),
            optimiser,
            halt_after=config.halt_after,
            average=config.average,
        ),
        batch=lanes["train"].batch,
        evaluate=lambda params: measure(params, lanes["valid"], limit),
        test=(
            (lambda params: measure(params, lanes["test"], limit))
            if "test" in lanes
            else None
        ),
        unit=f"nats/{config.tokens}",
        tokens_per_step=config.batch_size * config.sequence_length,
        plateau=optimiser.plateau,
        fingerprint={
            "data_sha256": digest(splits),
            "tokenizer_sha256": text_digest(tokenizer.as_json()),
        },
        files={"tokenizer.json": tokenizer.as_json()},
    )


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


def make_loss(graph: nnx.GraphDef):
    """Mean nats a token of a batch, and the carry after it; pure in `params`."""

    def loss(
        params: Any, carry: Any, batch: TokenBatch[Array], key: Array
    ) -> tuple[Array, Any]:
        nats, carry = _nats(nnx.merge(graph, params), carry, batch, key)
        return jnp.mean(nats), carry

    return loss


def make_measure(graph: nnx.GraphDef) -> Callable[..., dict[str, float]]:
    """Returns `measure(params, lanes, limit=None)`: mean nats a token over a whole split,
    every token once, the carry kept from batch to batch; or over `limit` batches from its
    beginning."""
    mesh = make_mesh()

    # Where the carry comes from, so that all batches share one program.
    @partial(jax.jit, out_shardings=(None, carry_sharding(mesh)))
    def add(params: Any, carry: Any, batch: TokenBatch[Array]) -> tuple[Array, Any]:
        nats, carry = _nats(nnx.merge(graph, params), carry, batch, key=None)
        return jnp.sum(jnp.where(batch.mask, nats, 0)), carry

    def measure(
        params: Any, lanes: TokenLanes, limit: int | None = None
    ) -> dict[str, float]:
        carry = nnx.merge(graph, params).initial_carry((lanes.lanes,))
        carry = place_carry(carry, mesh)
        total, tokens, count = 0.0, 0, lanes.evaluation_batches
        if limit is not None:
            count = min(limit, count)
        for batch in watched(islice(lanes.every_token(), count), count):
            nats, carry = add(params, carry, place_batch(batch, mesh))
            total += float(nats)
            tokens += int(batch.mask.sum())
        return {"loss": total / tokens} | share_of(tokens, len(lanes.tokens) - 1)

    return measure


def _nats(
    model: LanguageModel, carry: Any, batch: TokenBatch[Array], key: Array | None
) -> tuple[Array, Any]:
    start = model.initial_carry(batch.fresh.shape)
    carry, logits = model(batch.inputs, select(batch.fresh, start, carry), key=key)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
    return nats, carry


def _draw_uniformly(model: LanguageModel, bound: float, seed: int) -> None:
    params = nnx.state(model, nnx.Param)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), len(leaves))
    drawn = [
        jax.random.uniform(key, leaf.shape, leaf.dtype, -bound, bound)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    nnx.update(model, jax.tree.unflatten(structure, drawn))

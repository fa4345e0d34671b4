"""The model that a config names."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import nnx
from jax import Array

from jaxrnn import (
    FeedForward,
    MogrifierLSTM,
    OutputDropout,
    PreNorm,
    VariationalDropout,
    WeightDrop,
)
from jaxrnn.cell import Cell, Recurrence
from jaxrnn.models import LanguageModel, Pure, TransformerLanguageModel
from jaxrnn.models.cells import make_layers

from .config import Config

Model = LanguageModel | TransformerLanguageModel


def make_model(config: Config, vocabulary_size: int) -> Pure[Model]:
    """Raises ValueError if the config names no cell or its sizes do not fit."""
    kind = transformer if config.cell == "transformer" else recurrent
    build = kind(config, vocabulary_size)

    def make(key: Array) -> Model:
        model = build(nnx.Rngs(params=jax.random.fold_in(key, 0)))
        drawn = jax.random.fold_in(key, 1)
        if config.uniform_init is not None:
            draw_uniformly(model, config.uniform_init, drawn)
        if config.torch_init is not None and isinstance(model, LanguageModel):
            draw_as_torch(model, config.torch_init, drawn)
        return model

    return Pure(make)


def recurrent(config: Config, vocabulary_size: int) -> Callable[[nnx.Rngs], LanguageModel]:
    layers = make_layers(
        make_cell(config),
        config.layers,
        config.embedding_size,
        config.hidden_size,
        around=lambda cell: make_layer(config, cell),
        precision=config.precision,
        last_size=config.last_size,
    )
    enter, between, leave = config.dropouts
    return lambda rngs: LanguageModel(
        vocabulary_size,
        config.embedding_size,
        layers,
        dropout=(enter, between if config.block == "plain" else 0.0, leave),
        embedding_dropout=config.embedding_dropout,
        dropout_over_time=config.dropout_over_time,
        tied=config.tied,
        norm=config.block == "pre-norm",
        precision=config.precision,
        rngs=rngs,
    )


def make_cell(config: Config) -> str | Callable[[int, int], Cell]:
    if config.cell != "mogrifierlstm":
        return config.cell
    rounds, rank = config.mogrifier_rounds, config.mogrifier_rank
    return partial(MogrifierLSTM, rounds=rounds, rank=rank)


def make_layer(config: Config, cell: Cell) -> Recurrence:
    """The cell with its noise, and the block around it, which drops what the cell adds."""
    if config.recurrent_dropout:
        cell = VariationalDropout(cell, config.recurrent_dropout)
    layer = WeightDrop(cell, config.weight_drop) if config.weight_drop else cell
    if config.block == "plain":
        return layer
    _, between, _ = config.dropouts
    if between:
        layer = OutputDropout(layer, between, config.dropout_over_time == "shared")
    block = PreNorm(layer)
    if config.feed_forward is None:
        return block
    products = None if config.precision == "float32" else config.precision
    return FeedForward(block, config.feed_forward, products)


def transformer(
    config: Config, vocabulary_size: int
) -> Callable[[nnx.Rngs], TransformerLanguageModel]:
    return lambda rngs: TransformerLanguageModel(
        vocabulary_size,
        config.hidden_size,
        layers=config.layers,
        heads=config.heads,
        feed_forward=config.feed_forward or 4 * config.hidden_size,
        dropout=config.dropout,
        precision=config.precision,
        rngs=rngs,
    )


def draw_uniformly(variables: Any, bound: float, key: Array) -> None:
    """All parameters of a model, or of a part of one."""
    params = nnx.state(variables, nnx.Param)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.uniform(key, leaf.shape, leaf.dtype, -bound, bound)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    nnx.update(variables, jax.tree.unflatten(structure, drawn))


def draw_as_torch(model: LanguageModel, bound: float, key: Array) -> None:
    """Layers as PyTorch begins them, though with one bias where it adds two."""
    keys = jax.random.split(key, len(model.layers) + 2)
    draw_uniformly(model.embedding, bound, keys[0])
    for layer, layer_key in zip(model.layers, keys[2:], strict=True):
        draw_uniformly(layer, layer.recurrence.output_size**-0.5, layer_key)
    if not model.tied:
        kernel = model.output.kernel
        kernel[...] = jax.random.uniform(keys[1], kernel.shape, kernel.dtype, -bound, bound)

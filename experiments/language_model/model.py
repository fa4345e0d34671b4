"""The model that a config names."""

from collections.abc import Callable

import jax
from flax import nnx
from jax import Array

from experiments.language_model.config import Config
from jaxrnn import FeedForward, OutputDropout, PreNorm
from jaxrnn.cell import Cell, Recurrence
from jaxrnn.models import LanguageModel, Pure, TransformerLanguageModel
from jaxrnn.models.cells import make_layers

Model = LanguageModel | TransformerLanguageModel


def make_model(config: Config, vocabulary_size: int) -> Pure[Model]:
    """Raises ValueError if the config names no cell or its sizes do not fit."""
    kind = transformer if config.cell == "transformer" else recurrent
    build = kind(config, vocabulary_size)

    def make(key: Array) -> Model:
        model = build(nnx.Rngs(params=jax.random.fold_in(key, 0)))
        if config.uniform_init is not None:
            draw_uniformly(model, config.uniform_init, jax.random.fold_in(key, 1))
        return model

    return Pure(make)


def recurrent(config: Config, vocabulary_size: int) -> Callable[[nnx.Rngs], LanguageModel]:
    layers = make_layers(
        config.cell,
        config.layers,
        config.embedding_size,
        config.hidden_size,
        around=lambda cell: in_block(config, cell),
        precision=config.precision,
    )
    return lambda rngs: LanguageModel(
        vocabulary_size,
        config.embedding_size,
        layers,
        dropout=config.dropout,
        dropout_over_time=config.dropout_over_time,
        tied=config.tied,
        norm=config.block == "pre-norm",
        precision=config.precision,
        rngs=rngs,
    )


def in_block(config: Config, cell: Cell) -> Recurrence:
    """A layer: the cell, or the block around it, which drops what the cell adds."""
    if config.block == "plain":
        return cell
    shared = config.dropout_over_time == "shared"
    layer = PreNorm(OutputDropout(cell, config.dropout, shared) if config.dropout else cell)
    if config.feed_forward is None:
        return layer
    products = None if config.precision == "float32" else config.precision
    return FeedForward(layer, config.feed_forward, products)


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


def draw_uniformly(model: nnx.Module, bound: float, key: Array) -> None:
    params = nnx.state(model, nnx.Param)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.uniform(key, leaf.shape, leaf.dtype, -bound, bound)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    nnx.update(model, jax.tree.unflatten(structure, drawn))

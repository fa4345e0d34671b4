"""Translating sentences with a trained model."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jaxrnn.data.bpe import SPACE
from jaxrnn.data.buckets import Buckets, edges_for, pad
from jaxrnn.data.vocabulary import BEGIN, END
from jaxrnn.models.sampling import NO_TOKEN
from jaxrnn.models.search import beam_search, greedy
from jaxrnn.models.translator import Translator

from .problem import Languages, Model, before_each

# (params, source [S, B], mask [S, B]) -> tokens [length, B]
Write = Callable[[Any, Any, Any], Array]


@lru_cache(maxsize=8)  # a program is compiled once, however often it is asked
def make_write(graph: nnx.GraphDef, beam: int, length: int) -> Write:
    """The jitted search: greedy for a `beam` of 1."""

    @jax.jit
    def write(params: Any, source: Array, mask: Array) -> Array:
        model = nnx.merge(graph, params)
        encoded = model.encode(source, mask)
        state = model.start(encoded, length)
        first = jnp.full(source.shape[1], BEGIN, jnp.int32)

        def step(state: Any, tokens: Array) -> tuple[Any, Array]:
            return model.step(encoded, state, tokens)

        if beam == 1:
            return greedy(step, state, first, END, length)
        return beam_search(step, state, first, END, length, beam)[0]

    return write


def translate(
    model: Model,
    languages: Languages,
    sentences: Sequence[str],
    *,
    beam: int = 1,
    length: int = 50,
    batch_size: int = 128,
) -> list[np.ndarray]:
    """The tokens of each sentence's translation.

    Raises ValueError for a beam below 1, or a model whose logits are NaN.
    """
    if beam < 1:
        raise ValueError(f"beam must be 1 or more, got {beam}")
    graph, params = nnx.split(model)
    write = make_write(graph, beam, length)
    source = [languages.source.encode(sentence) for sentence in sentences]
    lengths = np.array([len(tokens) for tokens in source])
    # The same edges for all that is not unusually long, so that they share programs.
    edges = edges_for(np.maximum(lengths, length), 1.5)
    buckets = Buckets(lengths, min(batch_size, len(source)), edges)
    written = [np.array([], np.int32)] * len(source)
    for rows in buckets.in_order():
        tokens = np.asarray(write(params, *pad(source, rows)))
        for column, index in enumerate(rows.indices):
            if index >= 0:
                written[index] = tokens[:, column]
                if NO_TOKEN in written[index]:
                    raise ValueError(
                        f"the model's logits are NaN or all -inf: there is no translation "
                        f"of {sentences[index]!r}"
                    )
    return written


class Look(NamedTuple):
    """Where a translator looked as it wrote each token."""

    source: list[str]  # S
    target: list[str]  # T
    weights: np.ndarray  # [T, S]


def look(model: Model, languages: Languages, sentence: str, written: np.ndarray) -> Look:
    """Raises ValueError if the model attends to nothing, or has many heads."""
    if not isinstance(model, Translator):
        raise ValueError("the picture is of one attention, a transformer has many")
    source = languages.source.encode(sentence)
    tokens = np.append(written[written != END], END)
    encoded = model.encode(jnp.asarray(source[:, None]), jnp.ones((len(source), 1), bool))
    weights = model.attention(encoded, before_each(jnp.asarray(tokens[:, None])))
    return Look(
        source=[*languages.source.tokenise(sentence), "</s>"],
        target=[*languages.target.read(tokens), "</s>"],
        weights=np.asarray(weights[:, 0]),
    )


def readable(symbols: list[str]) -> list[str]:
    """Without the mark of the space before a word."""
    return [symbol.replace(SPACE, "") or "·" for symbol in symbols]

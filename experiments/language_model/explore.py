"""What the report of a language model shows: its units, its memory, its surprises."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import optax

from jaxrnn.data.shards import Tokens
from jaxrnn.data.subwords import AnyTokenizer
from jaxrnn.models import LanguageModel
from jaxrnn.report.units import TOKENS, Reading, explorer, read_layers
from jaxrnn.training.run.opened import Section

from .model import Model
from .reach import passages, reach

LAGS, LANES = 100, 16


def explored(
    model: Model,
    tokenizer: AnyTokenizer,
    texts: Sequence[np.ndarray],
    looked_back_from: np.ndarray | Tokens,
) -> list[Section]:
    """Of texts as tokens `[N]` each, and the memory from places in another one."""
    readings = [read(model, tokenizer, text[:TOKENS]) for text in texts]
    length = min(LAGS, len(looked_back_from) // 2)
    if not isinstance(model, LanguageModel) or length < 2:
        return explorer(readings)
    read_back = passages(looked_back_from, length, LANES)
    by_lag = {"prediction": np.asarray(jnp.mean(reach(model, read_back), axis=1))}
    return explorer(
        readings,
        by_lag,
        "How far back the model looks: how much the nats of a token depend on the state so "
        f"many tokens before, the mean of {LANES} places.",
    )


def read(model: Model, tokenizer: AnyTokenizer, tokens: np.ndarray) -> Reading:
    given = jnp.asarray(tokens, jnp.int32)
    _, logits = model(given)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits[:-1], given[1:])
    cells = {}
    if isinstance(model, LanguageModel):
        cells = read_layers(model.layers, model.embedding(given))
    return Reading(tokenizer.spell(tokens), cells, np.append(np.nan, np.asarray(nats)))

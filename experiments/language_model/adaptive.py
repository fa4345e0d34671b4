"""Ways of evaluating that take in the text as they read it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from jaxrnn.data.lanes import TokenBatch
from jaxrnn.models import CacheMemory, NeuralCache
from jaxrnn.strategies.select import select
from jaxrnn.training import Dynamic, DynamicRule, Problem, Sum, gradient_rms

from .config import Config
from .problem import NextToken, loss_of
from .text import Text

# A way by the values that it has: {"cache_theta": 0.3, ...}.
Way = tuple[dict[str, float], Problem]


class CachedToken(NextToken):
    """The nats a token with a neural cache of the text so far (Grave et al. 2017)."""

    def __init__(self, config: Config, text: Text, cache: NeuralCache) -> None:
        super().__init__(config, text)
        self.cache = cache

    def evaluation_carry(self, params: Any) -> tuple[Any, CacheMemory]:
        width = self.model(params).output_size
        memory = self.cache.start(jnp.zeros((self.rows, width)))
        return super().evaluation_carry(params), memory

    def measure(
        self, params: Any, carry: Any, batch: TokenBatch[Array]
    ) -> tuple[dict[str, Sum], Any]:
        model, (carry, memory) = self.model(params), carry
        start = model.initial_carry(batch.fresh.shape)
        carry, outputs, _ = model.outputs(batch.inputs, select(batch.fresh, start, carry))
        memory, nats = self.cache.nats(
            memory, outputs, model.logits(outputs), batch.targets, batch.mask
        )
        return loss_of(nats, batch.mask), (carry, memory)


def cached(
    config: Config,
    text: Text,
    windows: Sequence[int],
    thetas: Sequence[float],
    shares: Sequence[float],
) -> Iterator[Way]:
    for window, theta, share in product(windows, thetas, shares):
        cache = NeuralCache(window, theta, share)
        values = {"cache_window": window, "cache_theta": theta, "cache_share": share}
        yield values, CachedToken(config, text, cache)


def dynamic(
    config: Config,
    text: Text,
    params: Any,
    kind: Literal["sgd", "rms"],
    rates: Sequence[float],
    decays: Sequence[float],
    *,
    segment: int,
    statistics_lanes: int,
) -> Iterator[Way]:
    """The statistics of "rms" are gathered on all of the training text, in segments of as
    many tokens as those that are measured."""
    config = replace(config, sequence_length=segment, varied_lengths=False)
    rms = None
    if kind == "rms":
        train = replace(text, tokens={"train": text.tokens["train"]})
        gathered = NextToken(replace(config, batch_size=statistics_lanes), train)
        rms = gradient_rms(gathered, params, gathered.lanes["train"].every_token())
    problem = NextToken(config, text)
    for rate, decay in product(rates, decays):
        values = {"dynamic_rate": rate, "dynamic_decay": decay}
        yield values, Dynamic(problem, DynamicRule(rate, decay), rms)

"""Writing out the likeliest sentence, one compiled loop over time.

Every decoder that steps is served: `step(state, tokens [B]) -> (state, logits [B, V])`,
the leaves of the state `[B, ...]`. A token of -inf is never written; where a logit is NaN
or all are -inf, `NO_TOKEN`, -1, stands for what there is not.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.models.sampling import NO_TOKEN

Step = Callable[[Any, Array], tuple[Any, Array]]


def greedy(step: Step, state: Any, first: Array, end: int, length: int) -> Array:
    """Takes the likeliest token at every step: `[length, B]` from tokens `first` `[B]`.

    `end` fills each column from the sentence's end on, or from a `NO_TOKEN` on; the loop
    stops when all ended.
    """

    def going(loop: tuple) -> Array:
        t, _, _, ended, _ = loop
        return (t < length) & ~jnp.all(ended)

    def write(loop: tuple) -> tuple:
        t, state, token, ended, written = loop
        state, logits = step(state, token)
        likeliest = jnp.argmax(logits, axis=-1).astype(first.dtype)
        there = jnp.max(logits, axis=-1) > -jnp.inf  # NaN is not
        token = jnp.where(ended, end, jnp.where(there, likeliest, NO_TOKEN))
        ended |= (token == end) | (token == NO_TOKEN)
        return t + 1, state, token, ended, written.at[t].set(token)

    written = jnp.full((length, *first.shape), end, first.dtype)
    ended = jnp.zeros(first.shape, bool)
    loop = (jnp.int32(0), state, first, ended, written)
    return jax.lax.while_loop(going, write, loop)[-1]


class Beams(NamedTuple):
    t: Array  # []
    state: Any  # leaves [B, K, ...]
    last: Array  # [B, K]  the token written last
    scores: Array  # [B, K]  log-probability of what is written
    lengths: Array  # [B, K]  tokens written, the end included
    ended: Array  # [B, K]
    written: Array  # [length, B, K]


def beam_search(
    step: Step,
    state: Any,
    first: Array,
    end: int,
    length: int,
    width: int,
    length_power: float = 1.0,
) -> tuple[Array, Array]:
    """Follows the `width` likeliest beginnings: tokens `[length, B]` and scores `[B]`.

        score = log-probability / tokens ** length_power

    The best score of the last beams wins; the tokens counted include the end. A sentence
    that ended keeps its place among the beams while its log-probability earns it, and a
    beginning with nowhere to go, all logits -inf, loses it. One that comes upon a NaN
    spoils its sentence: tokens of `NO_TOKEN`, a score of NaN. Scores are float32 whatever
    the logits are. Raises ValueError for a width or length below 1.
    """
    if width < 1:
        raise ValueError(f"a beam has a width of 1 or more, got {width}")
    if length < 1:
        raise ValueError(f"a sentence has a length of 1 or more, got {length}")
    step = jax.vmap(step, in_axes=1, out_axes=1)
    rows = first.shape[0]

    def repeated(leaf: Array) -> Array:
        return jnp.repeat(leaf[:, None], width, axis=1)

    def going(beams: Beams) -> Array:
        return (beams.t < length) & ~jnp.all(beams.ended)

    def write(beams: Beams) -> Beams:
        state, logits = step(beams.state, beams.last)
        gains = _log_probabilities(logits)
        # A sentence that ended goes on in one way only, at no cost.
        stays = jnp.where(jnp.arange(logits.shape[-1]) == end, 0.0, -jnp.inf)
        gains = jnp.where(beams.ended[..., None], stays.astype(jnp.float32), gains)
        candidates = (beams.scores[..., None] + gains).reshape(rows, -1)
        spoiled = jnp.any(jnp.isnan(candidates), axis=-1, keepdims=True)
        scores, chosen = jax.lax.top_k(candidates, width)
        parents, token = jnp.divmod(chosen, logits.shape[-1])

        def of_parent(leaf: Array) -> Array:
            return jax.vmap(lambda row, index: row[index])(leaf, parents)

        token, ended = token.astype(first.dtype), of_parent(beams.ended)
        written = jnp.moveaxis(of_parent(jnp.moveaxis(beams.written, 0, 2)), 2, 0)
        return Beams(
            t=beams.t + 1,
            state=jax.tree.map(of_parent, state),
            last=token,
            scores=jnp.where(spoiled, jnp.nan, scores),
            lengths=of_parent(beams.lengths) + (~ended).astype(jnp.int32),
            ended=ended | (token == end) | spoiled,
            written=written.at[beams.t].set(token),
        )

    start = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)  # all beams are equal yet
    beams = Beams(
        t=jnp.int32(0),
        state=jax.tree.map(repeated, state),
        last=repeated(first),
        scores=jnp.broadcast_to(start.astype(jnp.float32), (rows, width)),
        lengths=jnp.zeros((rows, width), jnp.int32),
        ended=jnp.zeros((rows, width), bool),
        written=jnp.full((length, rows, width), end, first.dtype),
    )
    beams = jax.lax.while_loop(going, write, beams)
    scores = beams.scores / beams.lengths.astype(jnp.float32) ** length_power
    best = jnp.argmax(scores, axis=-1)
    pick = jax.vmap(lambda row, index: row[index])
    written, score = (
        jax.vmap(pick, in_axes=(0, None))(beams.written, best),
        pick(scores, best),
    )
    return jnp.where(score > -jnp.inf, written, NO_TOKEN), score


def _log_probabilities(logits: Array) -> Array:
    """In float32; -inf throughout where all logits are."""
    logits = logits.astype(jnp.float32)
    nowhere = jnp.max(logits, axis=-1, keepdims=True) == -jnp.inf
    return jnp.where(nowhere, -jnp.inf, jax.nn.log_softmax(logits))

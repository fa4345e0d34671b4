"""Writing out the likeliest sentence, one compiled loop over time.

Every decoder that steps is served: `step(state, tokens [B]) -> (state, logits [B, V])`,
the leaves of the state `[B, ...]`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Step = Callable[[Any, Array], tuple[Any, Array]]


def greedy(step: Step, state: Any, first: Array, end: int, length: int) -> Array:
    """Takes the likeliest token at every step: `[length, B]` from tokens `first` `[B]`.

    `end` fills each column from the sentence's end on; the loop stops when all ended.
    """

    def going(loop: tuple) -> Array:
        t, _, _, ended, _ = loop
        return (t < length) & ~jnp.all(ended)

    def write(loop: tuple) -> tuple:
        t, state, token, ended, written = loop
        state, logits = step(state, token)
        token = jnp.where(ended, end, jnp.argmax(logits, axis=-1)).astype(first.dtype)
        return t + 1, state, token, ended | (token == end), written.at[t].set(token)

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
    that ended keeps its place among the beams while its log-probability earns it. Raises
    ValueError for a width below 1.
    """
    if width < 1:
        raise ValueError(f"a beam has a width of 1 or more, got {width}")
    step = jax.vmap(step, in_axes=1, out_axes=1)
    rows = first.shape[0]

    def repeated(leaf: Array) -> Array:
        return jnp.repeat(leaf[:, None], width, axis=1)

    def going(beams: Beams) -> Array:
        return (beams.t < length) & ~jnp.all(beams.ended)

    def write(beams: Beams) -> Beams:
        state, logits = step(beams.state, beams.last)
        gains = jax.nn.log_softmax(logits)
        # A sentence that ended goes on in one way only, at no cost.
        stays = jnp.where(jnp.arange(logits.shape[-1]) == end, 0.0, -jnp.inf)
        gains = jnp.where(beams.ended[..., None], stays.astype(gains.dtype), gains)
        candidates = (beams.scores[..., None] + gains).reshape(rows, -1)
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
            scores=scores,
            lengths=of_parent(beams.lengths) + (~ended).astype(jnp.int32),
            ended=ended | (token == end),
            written=written.at[beams.t].set(token),
        )

    start = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)  # all beams are equal yet
    beams = Beams(
        t=jnp.int32(0),
        state=jax.tree.map(repeated, state),
        last=repeated(first),
        scores=jnp.broadcast_to(start, (rows, width)),
        lengths=jnp.zeros((rows, width), jnp.int32),
        ended=jnp.zeros((rows, width), bool),
        written=jnp.full((length, rows, width), end, first.dtype),
    )
    beams = jax.lax.while_loop(going, write, beams)
    scores = beams.scores / beams.lengths.astype(jnp.float32) ** length_power
    best = jnp.argmax(scores, axis=-1)
    pick = jax.vmap(lambda row, index: row[index])
    written = jax.vmap(pick, in_axes=(0, None))(beams.written, best)
    return written, pick(scores, best)

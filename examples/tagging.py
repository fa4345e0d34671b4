"""Tags every word of sentences of different lengths, side by side in one batch.

A made-up grammar: a word after "the" is a noun and one after "to" a verb, unless the last
word of the sentence is "play": then both are nouns. The network reads in both directions,
and has to know where each sentence ends. `length_mask` tells it; what lies beyond is
padding, here of any words, which neither direction sees and no loss counts.

As it stands all tags of 640 new sentences came out right; with --without-mask, 95 %.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxrnn import LSTM, Bidirectional, length_mask
from jaxrnn.models import SequenceModel

WORDS = ("the", "to", "walk", "run", "play")
NONE, NOUN, VERB = range(3)
LONGEST, BATCH, UPDATES = 16, 32, 150


def sentence(draw):
    """The numbers of its words, and the tag of each."""
    pairs = draw.integers(1, LONGEST // 2 + 1)
    marks, words = draw.integers(2, size=pairs), draw.integers(2, 5, pairs)
    nouns = (marks == WORDS.index("the")) | (words[-1] == WORDS.index("play"))
    tags = np.where(nouns, NOUN, VERB)
    said = np.stack([marks, words], 1).ravel()
    return said, np.stack([np.full(pairs, NONE), tags], 1).ravel()


def batch(n):
    """xs [T, B, words], tags [T, B], lengths [B]: a pure function of n."""
    draw = np.random.default_rng(n)
    sentences = [sentence(draw) for _ in range(BATCH)]
    words = draw.integers(len(WORDS), size=(LONGEST, BATCH))
    tags = np.full((LONGEST, BATCH), NONE)
    for column, (said, tagged) in enumerate(sentences):
        words[: len(said), column], tags[: len(said), column] = said, tagged
    lengths = np.array([len(said) for said, _ in sentences])
    return np.eye(len(WORDS), dtype=np.float32)[words], tags, lengths


layer = Bidirectional(LSTM(len(WORDS), 16), LSTM(len(WORDS), 16))
model = SequenceModel([layer], 3, rngs=nnx.Rngs(0))
graph, params = nnx.split(model)
adam = optax.adam(1e-2)
blind = "--without-mask" in sys.argv


def judge(params, xs, tags, lengths):
    """The nats of a tag, and the share of those that are right."""
    there = length_mask(lengths, LONGEST)
    _, logits = nnx.merge(graph, params)(xs, mask=None if blind else there)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, tags)
    right = jnp.argmax(logits, -1) == tags
    return jnp.mean(nats, where=there), jnp.mean(right, where=there)


@jax.jit
def update(params, opt_state, *batch):
    gradients, _ = jax.grad(judge, has_aux=True)(params, *batch)
    updates, opt_state = adam.update(gradients, opt_state)
    return optax.apply_updates(params, updates), opt_state


state = params, adam.init(params)
for n in range(UPDATES):
    state = update(*state, *batch(n))
rights = [jax.jit(judge)(state[0], *batch(10**6 + n))[1] for n in range(20)]
print(f"right: {np.mean(rights):.4f}")

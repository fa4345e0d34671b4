import gzip
import io
import json
import os
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.translation import (
    evaluate,
    plot,
    train,
    translate as translate_command,
)
from experiments.translation.config import PRESETS
from experiments.translation.pairs import read_pairs
from experiments.translation.problem import make_problem
from experiments.translation.translation import make_write
from jaxrnn import (
    GRU,
    LSTM,
    MLSTM,
    SLSTM,
    Bidirectional,
    Elman,
    LearnedStart,
    Stack,
    VariationalDropout,
    WeightDrop,
    Zoneout,
    explain,
    unroll,
)
from jaxrnn.cells.slstm import SLSTMCarry
from jaxrnn.data import bpe
from jaxrnn.data.vocabulary import END, UNKNOWN, Vocabulary
from jaxrnn.models.attention import (
    Additive,
    AttendAfter,
    AttendBefore,
    Multiplicative,
    Whole,
)
from jaxrnn.models.search import beam_search, greedy
from jaxrnn.models.transformer import Transformer, sinusoids
from jaxrnn.models.translator import Encoded, Translator

S, T, B, D, H, M, A, V = 5, 6, 3, 4, 3, 6, 7, 9

ATTENTIONS = {
    "additive": Additive(H, M, A),
    "multiplicative": Multiplicative(H, M),
}


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def tokens(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).integers(4, V, shape), jnp.int32)


LENGTHS = np.array([5, 2, 3])
MASK = jnp.asarray(np.arange(S) < LENGTHS[:, None])  # [B, S]


# Attention.


def numpy_weights(attention, params, values, query):
    """Of one query over the values of one sentence, one entry at a time."""
    p, scores = [np.asarray(w) for w in params], []
    for value in values:
        if isinstance(attention, Additive):
            w_q, w_m, b, v = p
            scores.append(v @ np.tanh(query @ w_q + value @ w_m + b))
        else:
            scores.append(query @ (value @ p[0]))
    exponentials = np.exp(np.array(scores) - max(scores))
    return exponentials / exponentials.sum()


@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
def test_attention_follows_its_paper_one_entry_at_a_time(attention):
    params, values = attention.init(jax.random.key(1)), normal(0, B, S, M)
    query = normal(1, T, B, H)
    memory = attention.remember(params, values, MASK)
    weights = attention.weights(params, memory, query)
    context = attention.read(params, memory, query)
    assert weights.shape == (T, B, S) and context.shape == (T, B, M)
    for t in range(T):
        for b in range(B):
            valid = np.asarray(values[b, : LENGTHS[b]])
            want = numpy_weights(attention, params, valid, np.asarray(query[t, b]))
            np.testing.assert_allclose(weights[t, b, : LENGTHS[b]], want, rtol=1e-4)
            np.testing.assert_array_equal(weights[t, b, LENGTHS[b] :], 0)
            np.testing.assert_allclose(context[t, b], want @ valid, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
def test_what_padding_holds_reaches_neither_the_context_nor_a_gradient(attention):
    params, values = attention.init(jax.random.key(1)), normal(0, B, S, M)
    query = normal(1, B, H)

    def read(params, values):
        memory = attention.remember(params, values, MASK)
        return jnp.sum(attention.read(params, memory, query) ** 2)

    bad = jnp.where(MASK[..., None], values, jnp.nan)
    want = jax.value_and_grad(read, (0, 1))(params, values)
    got = jax.value_and_grad(read, (0, 1))(params, bad)
    chex.assert_trees_all_equal(got, want)
    np.testing.assert_array_equal(got[1][1][~MASK], 0)


def reading(recurrence, key=2):
    params = recurrence.init(jax.random.key(key))
    memory = recurrence.attention.remember(params.attention, normal(0, B, S, M), MASK)
    return recurrence.reading(params, memory)


@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
def test_attending_before_each_step_is_bahdanau_written_as_a_loop(attention):
    cell = AttendBefore(Elman(D + M, H), attention)
    params, xs = reading(cell), normal(3, T, B, D)
    _, ys = unroll(cell, params, xs)
    w_x, w_h, b = (np.asarray(w) for w in params.cell)
    for row in range(B):
        values, h = np.asarray(params.memory.values[row, : LENGTHS[row]]), np.zeros(H)
        for t in range(T):
            context = numpy_weights(attention, params.attention, values, h) @ values
            x = np.concatenate([xs[t, row], context])
            h = np.tanh(x @ w_x + h @ w_h + b)
            want = np.concatenate([h, context])
            np.testing.assert_allclose(ys[t, row], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
def test_attending_after_each_step_is_luong_written_as_a_loop(attention):
    recurrence = AttendAfter(Elman(D, H), attention)
    params, xs = reading(recurrence), normal(3, T, B, D)
    _, ys = unroll(recurrence, params, xs)
    w_x, w_h, b = (np.asarray(w) for w in params.cell)
    for row in range(B):
        values, h = np.asarray(params.memory.values[row, : LENGTHS[row]]), np.zeros(H)
        for t in range(T):
            h = np.tanh(np.asarray(xs[t, row]) @ w_x + h @ w_h + b)
            context = numpy_weights(attention, params.attention, values, h) @ values
            want = np.concatenate([h, context])
            np.testing.assert_allclose(ys[t, row], want, rtol=1e-4, atol=1e-5)


ATTENDING = {
    "before": AttendBefore(LSTM(D + M, H), ATTENTIONS["additive"]),
    "before, a stack": AttendBefore(
        Stack((GRU(D + M, 5), LSTM(5, H))), ATTENTIONS["multiplicative"]
    ),
    "after": AttendAfter(GRU(D, H), ATTENTIONS["additive"]),
}


@pytest.mark.parametrize("recurrence", ATTENDING.values(), ids=ATTENDING)
def test_an_attending_recurrence_is_its_steps_and_cuts_in_two(recurrence):
    params, xs = reading(recurrence), normal(3, T, B, D)
    mask = jnp.asarray(np.arange(T)[:, None] < [6, 2, 0])
    want_carry, want = unroll(recurrence, params, xs)
    carry, step = recurrence.initial_carry(params, (B,)), jax.jit(recurrence.step)
    for x, y in zip(xs, want, strict=True):
        carry, got = step(params, carry, x)
        chex.assert_trees_all_close(got, y, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(carry, want_carry, rtol=1e-5, atol=1e-6)

    first, begun = unroll(recurrence, params, xs[:4])
    _, ended = unroll(recurrence, params, xs[4:], first)
    whole = jnp.concatenate([begun, ended])
    chex.assert_trees_all_close(whole, want, rtol=1e-5, atol=1e-6)

    carry, ys = unroll(recurrence, params, xs, mask=mask)
    short, _ = unroll(recurrence, params, xs[:2])
    chex.assert_trees_all_close(
        jax.tree.map(lambda a: a[1], carry), jax.tree.map(lambda a: a[1], short), rtol=1e-5
    )
    np.testing.assert_array_equal(ys[~mask], 0)


@pytest.mark.parametrize("recurrence", ATTENDING.values(), ids=ATTENDING)
def test_the_weights_shown_are_those_that_were_read_with(recurrence):
    params, xs = reading(recurrence), normal(3, T, B, D)
    carry = recurrence.initial_carry(params, (B,))
    _, ys = unroll(recurrence, params, xs, carry)
    weights = recurrence.weights(params, carry, ys)
    context = jnp.einsum("tbs,bsm->tbm", weights, params.memory.values)
    chex.assert_trees_all_close(context, ys[..., H:], rtol=1e-5, atol=1e-6)


def test_attending_after_leaves_the_cell_to_the_fast_strategy():
    recurrence = ATTENDING["after"]
    assert "fused" in explain(recurrence, reading(recurrence), normal(3, T, B, D))
    with pytest.raises(ValueError, match="memory"):
        explain(recurrence)  # as unroll does


@pytest.mark.parametrize(
    "recurrence",
    [
        AttendBefore(VariationalDropout(GRU(D + M, H), 0.5), ATTENTIONS["additive"]),
        AttendBefore(WeightDrop(GRU(D + M, H), 0.5), ATTENTIONS["additive"]),
        AttendAfter(Zoneout(GRU(D, H), 0.5), ATTENTIONS["multiplicative"]),
    ],
    ids=str,
)
def test_the_noise_of_what_attends_is_that_of_its_cell(recurrence):
    params, xs, key = reading(recurrence), normal(3, T, B, D), jax.random.key(0)
    noisy = recurrence.with_noise(params, key, T, (B,))
    want = recurrence.cell.with_noise(params.cell, key, T, (B,))
    chex.assert_trees_all_equal(noisy, params._replace(cell=want))
    assert not np.allclose(
        unroll(recurrence, noisy, xs)[1], unroll(recurrence, params, xs)[1]
    )


def test_a_cell_that_steps_with_what_it_reads_takes_no_noise_of_single_steps():
    cell = AttendBefore(Zoneout(GRU(D + M, H), 0.5), ATTENTIONS["additive"])
    noisy = cell.with_noise(reading(cell), jax.random.key(0), T, (B,))
    with pytest.raises(ValueError, match="step with params without noise"):
        unroll(cell, noisy, normal(3, T, B, D))


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="is asked with 3 features, .* gives 5"):
        AttendAfter(GRU(D, 5), ATTENTIONS["additive"])
    with pytest.raises(ValueError, match="no room beside the 6 features read"):
        AttendBefore(GRU(M, H), ATTENTIONS["additive"])
    cell = ATTENDING["before"]
    with pytest.raises(ValueError, match="nothing to attend to"):
        unroll(cell, cell.init(jax.random.key(0)), normal(0, T, B, D))
    encoder = Bidirectional(GRU(D, 2), GRU(D, 2))
    with pytest.raises(ValueError, match="reads 6 features, the encoder gives 4"):
        Translator(V, V, D, encoder, cell, readout_size=4, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("width, heads", [(9, 3), (8, 3), (8, 0)])
def test_a_transformer_needs_an_even_width_and_a_share_of_it_for_each_head(width, heads):
    with pytest.raises(ValueError, match=f"even and .*, got {width} and {heads} heads"):
        Transformer(V, V, width, layers=1, heads=heads, feed_forward=4, rngs=nnx.Rngs(0))


# Both models.

ENCODER = Bidirectional(LSTM(D, H), LSTM(D, H))  # gives 6, its summary 12
DECODERS = {
    "additive": AttendBefore(GRU(D + M, H), Additive(H, M, A)),
    "multiplicative": AttendAfter(LSTM(D, H), Multiplicative(H, M)),
    "context": AttendBefore(GRU(D + 12, H), Whole(H, 12)),
    "none": Stack((LSTM(D, H), GRU(H, H))),
}
MODELS = [*DECODERS, "transformer"]


@cache  # not to be changed
def some_model(name):
    rngs = nnx.Rngs(params=jax.random.key(5))
    if name == "transformer":
        return Transformer(
            V, V, 8, layers=2, heads=2, feed_forward=12, dropout=0.3, rngs=rngs
        )
    decoder = DECODERS[name]
    return Translator(V, V, D, ENCODER, decoder, readout_size=5, dropout=0.3, rngs=rngs)


@nnx.jit
def run(model, source, mask, target):
    return model(source, mask, target)


@pytest.mark.parametrize("name", MODELS)
def test_padding_of_the_source_and_later_words_change_nothing(name):
    model, source, target = some_model(name), tokens(0, S, B), tokens(1, T, B)
    want = run(model, source, MASK.T, target)
    assert want.shape == (T, B, V)
    row, length = 1, int(LENGTHS[1])
    column = (slice(None), slice(row, row + 1))
    alone = run(model, source[column][:length], MASK.T[column][:length], target[column])
    chex.assert_trees_all_close(alone[:, 0], want[:, row], rtol=1e-4, atol=1e-5)
    other = run(model, source, MASK.T, target.at[3:].set(1))
    chex.assert_trees_all_close(other[:3], want[:3], rtol=1e-5, atol=1e-6)
    assert not np.allclose(other[3:], want[3:])
    another = run(model, source.at[0].set(1), MASK.T, target)
    assert not np.allclose(another, want, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_step_by_step_is_all_at_once(name):
    model, target = some_model(name), tokens(1, T, B)

    @nnx.jit
    def by_steps(model, source, mask, target):
        encoded = model.encode(source, mask)

        def step(state, token):
            return model.step(encoded, state, token)

        state = model.start(encoded, T)
        assert all(len(leaf) == B for leaf in jax.tree.leaves(state))
        return jax.lax.scan(step, state, target)[1]

    source = tokens(0, S, B)
    want = run(model, source, MASK.T, target)
    got = by_steps(model, source, MASK.T, target)
    chex.assert_trees_all_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["additive", "transformer"])
def test_dropout_happens_with_a_key_only(name):
    model, source, target = some_model(name), tokens(0, S, B), tokens(1, T, B)
    keyed = nnx.jit(lambda model, key: model(source, MASK.T, target, key=key))
    plain = run(model, source, MASK.T, target)
    first, again, other = (keyed(model, jax.random.key(s)) for s in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert not np.allclose(first, plain) and not np.allclose(first, other)


NOISY = {  # encoder, decoder
    "in the encoder": (Bidirectional(LSTM(D, H), WeightDrop(LSTM(D, H), 0.5)), GRU(D, H)),
    "in the decoder": (ENCODER, VariationalDropout(GRU(D, H), 0.5)),
    "in every step of the decoder": (ENCODER, Zoneout(GRU(D, H), 0.5)),
    "within attention": (
        ENCODER,
        AttendBefore(VariationalDropout(GRU(D + M, H), 0.5), Additive(H, M, A)),
    ),
}


def translator(encoder, decoder, **options):
    rngs = nnx.Rngs(params=jax.random.key(5))
    return Translator(V, V, D, encoder, decoder, readout_size=5, rngs=rngs, **options)


@pytest.mark.parametrize("parts", NOISY.values(), ids=NOISY)
def test_the_noise_of_encoder_and_decoder_happens_with_a_key_only(parts):
    model, source, target = translator(*parts), tokens(0, S, B), tokens(1, T, B)
    keyed = nnx.jit(lambda model, key: model(source, MASK.T, target, key=key))
    plain = run(model, source, MASK.T, target)
    first, again, other = (keyed(model, jax.random.key(s)) for s in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert not np.allclose(first, plain) and not np.allclose(first, other)


def test_the_decoders_noise_is_the_same_where_words_are_sampled():
    model, target = translator(*NOISY["within attention"]), tokens(1, T, B)
    encoded, key = model.encode(tokens(0, S, B), MASK.T), jax.random.key(0)
    want = model.decode(encoded, target, key=key)
    got = model.decode(encoded, target, key=key, forced=jnp.ones(T, bool))
    chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)
    assert not np.allclose(got, model.decode(encoded, target), atol=1e-4)


def test_dropout_is_that_of_its_keys_to_the_bit_whatever_noise_is_drawn():
    model, source, target = some_model("additive"), tokens(0, S, B), tokens(1, T, B)
    key = jax.random.key(3)
    key_source, key_target = jax.random.split(key)
    key_words, key_readout = jax.random.split(key_target)
    xs = model.dropout(model.source_embedding(source), rngs=key_source)
    last, ys = model.encoder(xs, mask=MASK.T)
    encoded = Encoded(
        model.decoder.recurrence.attention.remember(
            model.decoder.arrays().attention, jnp.swapaxes(ys, 0, 1), MASK
        ),
        model._start(jnp.concatenate(jax.tree.leaves(last), axis=-1)),
    )
    xs = model.dropout(model.target_embedding(target), rngs=key_words)
    decoder, params = model.decoder.recurrence, model.reading(encoded)
    _, ys = unroll(decoder, params, xs, encoded.carry)
    want = model.logits(ys, xs, key_readout)
    chex.assert_trees_all_equal(model(source, MASK.T, target, key=key), want)


@pytest.mark.parametrize(
    "decoder",
    [SLSTM(D, H), Stack((LSTM(D, H), LearnedStart(SLSTM(H, H))))],
    ids=str,
)
def test_a_stabilised_memory_starts_empty_and_only_its_output_from_the_source(decoder):
    model = translator(ENCODER, decoder)
    for start in model.starts:  # far, so that what is not a start shows itself
        start.kernel[...] = 10 * start.kernel[...]
    encoded = model.encode(tokens(0, S, B), MASK.T)
    carry = jax.tree.leaves(
        encoded.carry, is_leaf=lambda part: isinstance(part, SLSTMCarry)
    )[-1]
    assert np.abs(carry.h).max() > 0.5
    for leaf in carry[1:]:
        np.testing.assert_array_equal(leaf, 0)
    params, xs = model.decoder.arrays(), 5 * normal(3, 40, B, D)
    _, ys = unroll(decoder, params, xs, encoded.carry)
    assert np.abs(ys).max() <= 1


def test_a_decoder_that_could_know_nothing_of_the_source_is_refused():
    with pytest.raises(ValueError, match="MLSTM.* nothing of the source"):
        translator(ENCODER, MLSTM(D, H))
    translator(ENCODER, AttendAfter(MLSTM(D, H), Additive(H, M, A)))


def test_scheduled_sampling_takes_the_models_own_words_where_it_is_not_forced():
    model, target = some_model("additive"), tokens(1, T, B)
    encoded = nnx.jit(Translator.encode)(model, tokens(0, S, B), MASK.T)
    decode, step = nnx.jit(Translator.decode), nnx.jit(Translator.step)
    forced = jnp.array([False, True, False, False, True, False])  # the first is always
    got = decode(model, encoded, target, forced=forced)
    all_forced = decode(model, encoded, target, forced=jnp.ones(T, bool))
    want = decode(model, encoded, target)
    chex.assert_trees_all_close(all_forced, want, rtol=1e-5, atol=1e-6)

    carry, own, different = encoded.carry, None, False
    for t in range(T):
        token = target[t] if t == 0 or forced[t] else own
        different |= not np.array_equal(token, target[t])
        carry, logits = step(model, encoded, carry, token)
        chex.assert_trees_all_close(logits, got[t], rtol=1e-5, atol=1e-6)
        own = jnp.argmax(logits, -1).astype(jnp.int32)
    assert different


def test_positions_are_the_papers_sines_and_cosines():
    got = sinusoids(jnp.arange(3), 8)
    for place in range(3):
        angles = [place / 10_000 ** (2 * i / 8) for i in range(4)]
        want = np.concatenate([np.sin(angles), np.cos(angles)])
        np.testing.assert_allclose(got[place], want, rtol=1e-5, atol=1e-6)


# Search.


def chain(table):
    """A decoder that knows the last word only; its state counts the words."""

    def step(count, token):
        return count + 1, jnp.asarray(table)[token]

    return step


def exhaustive(table, first, end, length, power):
    """The best of all sentences: a loop over every one there is."""
    gains = table - np.log(np.exp(table).sum(-1, keepdims=True))
    best, paths = (-np.inf, None), [((), 0.0, first)]
    for _ in range(length):
        longer = []
        for words, score, last in paths:
            for word in range(len(table)):
                path = ((*words, word), score + gains[last, word], word)
                (longer if word != end and len(path[0]) < length else []).append(path)
                if word == end or len(path[0]) == length:
                    best = max(best, (path[1] / len(path[0]) ** power, path[0]))
        paths = longer
    return best


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_sentence_of_all(power):
    end, length, first, count = 3, 4, jnp.array([0, 1], jnp.int32), jnp.zeros(2)

    @jax.jit
    def search(table):
        simple = greedy(chain(table), count, first, end, length)
        wide = beam_search(chain(table), count, first, end, length, 256, power)
        return simple, *wide

    different = 0
    for seed in range(4):
        table = 2 * np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32)
        simple, written, scores = search(table)
        for row in range(2):
            score, words = exhaustive(table, row, end, length, power)
            filled = [*words, *[end] * (length - len(words))]
            assert written[:, row].tolist() == filled
            np.testing.assert_allclose(scores[row], score, rtol=1e-5)
            different += filled != simple[:, row].tolist()
    assert different


def test_a_beam_of_one_is_greedy_and_greedy_takes_the_likeliest():
    table = np.random.default_rng(7).normal(size=(6, 6)).astype(np.float32)
    first, count = jnp.arange(6, dtype=jnp.int32), jnp.zeros(6, jnp.int32)
    written = greedy(chain(table), count, first, 5, 8)
    for row in range(6):
        last, ended = row, False
        for t in range(8):
            last = 5 if ended else int(np.argmax(table[last]))
            ended |= last == 5
            assert written[t, row] == last
    beam, _ = beam_search(chain(table), count, first, 5, 8, 1)
    chex.assert_trees_all_equal(beam, written)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_scores_are_added_up_in_float32_whatever_the_logits_are(dtype):
    """600 tokens of equal logits: in bfloat16 the sum would stand still at -256."""
    count, first = jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.int32)
    with jax.enable_x64(dtype == "float64"):
        table = jnp.zeros((3, 3), dtype).at[:, 2].set(-100)
        written, score = beam_search(chain(table), count, first, 2, 600, 2, 0.0)
        assert greedy(chain(table), count, first, 2, 5).tolist() == [[0]] * 5
    assert written.shape == (600, 1) and written.max() < 2
    assert score.dtype == jnp.float32
    np.testing.assert_allclose(score, -600 * np.log(2), rtol=1e-5)


@pytest.mark.parametrize("width", [1, 3])
def test_no_token_is_written_where_there_is_none(width):
    inf, nan = np.inf, np.nan
    table = jnp.array(
        [
            [-inf, 1.0, 0.0, -inf],  # good, and leads to what is good
            [-inf, 2.0, 1.0, 3.0],  # ends
            [-inf, -inf, -inf, -inf],  # leads nowhere
            [0.0, nan, 0.0, 0.0],
        ]
    )
    first, end, count = jnp.array([0, 2, 3]), 3, jnp.zeros(3, jnp.int32)
    simple = greedy(chain(table), count, first, end, 4)
    assert simple.T.tolist() == [[1, 3, 3, 3], [-1, 3, 3, 3], [-1, 3, 3, 3]]
    written, scores = beam_search(chain(table), count, first, end, 4, width)
    assert written.T.tolist() == [[1, 3, 3, 3], [-1] * 4, [-1] * 4]
    assert np.isfinite(scores).tolist() == [True, False, False]


def test_a_beam_needs_a_width_and_a_length():
    for length, width, message in ((3, 0, "width of 1"), (0, 3, "length of 1")):
        with pytest.raises(ValueError, match=message):
            beam_search(chain(np.eye(3)), jnp.zeros(1), jnp.zeros(1, int), 2, length, width)


# Sentences to numbers.


def test_byte_pairs_are_joined_from_the_most_frequent_on():
    """The example of Sennrich et al. 2016, ties in the order of the alphabet."""
    words = Counter({"low_": 5, "lower_": 2, "newest_": 6, "widest_": 3})
    merges = bpe.learn_merges(words, 6)
    assert merges[:3] == [("e", "s"), ("es", "t"), ("est", "_")]
    assert merges[3:5] == [("l", "o"), ("lo", "w")]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    assert bpe.split("lowest_", ranks) == ["low", "est_"]
    assert bpe.join("aaa", ("a", "a")) == ["aa", "a"]


def test_merges_are_those_of_counting_anew_each_time():
    draw = np.random.default_rng(0)
    words = Counter(
        {
            "".join(draw.choice(list("abc"), draw.integers(1, 9))): int(n)
            for n in range(1, 60)
        }
    )
    parts, want = {word: list(word) for word in words}, []
    for _ in range(25):
        pairs = Counter()
        for word, split in parts.items():
            for pair in zip(split, split[1:], strict=False):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        want.append(best)
        parts = {word: bpe.join(split, best) for word, split in parts.items()}
    assert bpe.learn_merges(words, 25) == want
    ranks = {pair: rank for rank, pair in enumerate(want)}
    for word, split in parts.items():
        assert bpe.split(word, ranks) == split


def test_parts_of_words_give_the_text_back():
    sentences = [
        "¿Qué hora es?",
        "Es la una, creo.",
        "¿Qué es la hora?",
        "No creo: es una.",
    ]
    vocabulary = Vocabulary.of_parts(sentences * 2, 60)
    assert vocabulary.size <= 60
    for sentence in sentences:
        encoded = vocabulary.encode(sentence)
        assert encoded[-1] == END and UNKNOWN not in encoded
        assert vocabulary.decode(encoded) == sentence
    assert UNKNOWN in vocabulary.encode("año")
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.as_json())))
    assert again == vocabulary


def test_words_are_small_and_the_rare_ones_unknown():
    vocabulary = Vocabulary.of_words(["A man's hat.", "a Man"], 2)
    assert vocabulary.tokenise("A man's hat.") == ["a", "man", "'s", "hat", "."]
    assert vocabulary.symbols[4:] == ("a", "man")
    encoded = vocabulary.encode("a hat")
    assert encoded.tolist() == [4, UNKNOWN, END]
    assert vocabulary.decode(np.append(encoded, [5, 5])) == "a <unk>"


def test_no_source_sentence_is_in_two_splits(tmp_path):
    lines = [f"Word {n // 3}{'.!'[n % 2]}\tPalabra {n}\tsomeone" for n in range(3000)]
    (tmp_path / "spa.txt").write_text("\n".join(lines), encoding="utf-8")
    splits = read_pairs("pairs", tmp_path)
    sources = [{s.rstrip(".!") for s in split.source} for split in splits.values()]
    assert sum(map(len, sources)) == len(set.union(*sources)) == 1000
    assert sum(len(split.source) for split in splits.values()) == 3000
    assert len(splits["train"].source) > 2700 and len(splits["test"].source) > 20


NUMBERED = [f"satz {n}\tsentence {n}" for n in range(200)]


def all_pairs(path):
    splits = read_pairs("pairs", path).values()
    return [pair for split in splits for pair in zip(*split, strict=True)]


def test_two_files_line_for_line_are_pairs_and_can_be_read_backwards(tmp_path):
    for place, name in enumerate(("news.de", "news.en")):
        lines = [line.split("\t")[place] for line in NUMBERED]
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    forwards = all_pairs(tmp_path)
    assert sorted("\t".join(pair) for pair in forwards) == sorted(NUMBERED)
    backwards = read_pairs("pairs", tmp_path, backwards=True)
    turned = {
        pair[::-1] for split in backwards.values() for pair in zip(*split, strict=True)
    }
    assert turned == set(forwards)
    sources = [set(split.source) for split in backwards.values()]
    assert sum(map(len, sources)) == 200 and "sentence 7" in set.union(*sources)
    with pytest.raises(ValueError, match="backwards is of the corpus 'pairs', not 'rever"):
        read_pairs("reversal", None, backwards=True)
    (tmp_path / "news.fr").write_text("autre")
    with pytest.raises(ValueError, match="two line for line; it has 3"):
        all_pairs(tmp_path)


INSIDE = ["\u2028", "\x85", "\x0c", "\x0b", "\x1c", "\r"]


@pytest.mark.parametrize("mark", INSIDE, ids=ascii)
def test_pairs_of_one_file_stay_pairs_whatever_a_sentence_holds(tmp_path, mark):
    path = tmp_path / "pairs.txt"
    path.write_bytes("\n".join([*NUMBERED, f"eine{mark}zeile\ta{mark}line"]).encode())
    pairs = all_pairs(path)
    assert len(pairs) == 201 and (f"eine{mark}zeile", f"a{mark}line") in pairs


def side_by_side(folder, german, english):
    for stem in ("train", "val", "test_2016_flickr"):
        for language, lines in (("de", german), ("en", english)):
            content = "".join(line + "\n" for line in lines).encode()
            (folder / f"{stem}.{language}.gz").write_bytes(gzip.compress(content))
    return read_pairs("multi30k", folder)["train"]


@pytest.mark.parametrize("mark", INSIDE, ids=ascii)
def test_pairs_side_by_side_stay_pairs_whatever_a_sentence_holds(tmp_path, mark):
    german = [f"satz {n}" for n in range(200)]
    english = [f"sentence {n}" for n in range(200)]
    german[3] += mark + "x"
    english[30] += mark + "x"
    pairs = side_by_side(tmp_path, german, [*english, "", " "])
    assert pairs == (german, english)
    german[7] = english[7] = ""
    assert len(side_by_side(tmp_path, german, english).source) == 199
    english[9] = " "
    with pytest.raises(ValueError, match="line 10 of .*train.en.gz is blank"):
        side_by_side(tmp_path, german, english)
    with pytest.raises(ValueError, match="train.de.gz has 200 .*train.en.gz has 199"):
        side_by_side(tmp_path, german, english[:-1])


@pytest.mark.parametrize(
    "line, message",
    [
        ("satz\t", "line 1 of .*pairs.txt has an empty side"),
        (" \tsentence", "line 1 of .*pairs.txt has an empty side"),
        ("German\tEnglish", "line 1 of .*pairs.txt names the columns"),
        ("süß\tsweet", "pairs.txt is not UTF-8 text: byte 0xfc in line 1"),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path, line, message):
    path = tmp_path / "pairs.txt"
    path.write_bytes("\n".join([line, *NUMBERED]).encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        read_pairs("pairs", path)


def test_blank_lines_line_ends_and_a_mark_are_no_part_of_pairs(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_bytes(
        "\r\n \t \r\n".join(["\ufeff" + NUMBERED[0], *NUMBERED[1:], ""]).encode()
    )
    pairs = all_pairs(path)
    assert sorted("\t".join(pair) for pair in pairs) == sorted(NUMBERED)


@pytest.mark.parametrize(
    "corpus, data, message",
    [
        ("pairs", None, "needs --data"),
        ("multi30k", ".", "has no train.de.gz"),
        ("pairs", "bad.txt", "line 2 of .*bad.txt has no tab"),
    ],
)
def test_data_that_are_not_there_are_named(tmp_path, monkeypatch, corpus, data, message):
    (tmp_path / "bad.txt").write_text("one\tuno\ntwo\n")
    with pytest.raises(ValueError, match=message):
        read_pairs(corpus, None if data is None else tmp_path / data)


@pytest.mark.skipif("JAXRNN_DATA" not in os.environ, reason="no JAXRNN_DATA")
def test_the_real_pairs_are_all_there():
    multi30k = read_pairs("multi30k", Path("multi30k/raw"))
    assert [len(split.source) for split in multi30k.values()] == [29_000, 1_014, 1_000]
    assert multi30k["train"].target[0].startswith("Two young, White males")
    tatoeba = read_pairs("pairs", Path("tatoeba_spa_eng"))
    assert sum(len(split.source) for split in tatoeba.values()) == 118_964
    assert set(tatoeba["train"].source).isdisjoint(tatoeba["test"].source)


# The experiment.

TINY = PRESETS["tiny"][1]


def command(monkeypatch, capsys, module, *arguments):
    monkeypatch.setattr(sys, "argv", ["experiment", *map(str, arguments)])
    module.main()
    return capsys.readouterr().out


@pytest.mark.slow
def test_tiny_learns_and_translates(tmp_path, monkeypatch, capsys):
    # The cell that compiles fastest.
    short = ["--cell", "elman", "--steps", 6, "--eval-every", 6, "--batch-size", 256]
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in integers
        command(monkeypatch, capsys, train, "tiny", *short, "--run-dir", tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["unit"] == "nats/word" and result["valid_loss"] < np.log(12)

    picture = tmp_path / "look.png"
    arguments = [tmp_path, "a b c", "--picture", picture]
    out = command(monkeypatch, capsys, translate_command, *arguments)
    assert set(out.strip()) <= set("αβγδεζηθ ")
    assert picture.stat().st_size > 1000

    # Lines of a pipe come one by one, and share a program.
    text = b"a b c d\n\na b c\r\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    searches = make_write.cache_info().misses
    lines = command(monkeypatch, capsys, translate_command, tmp_path)
    assert lines.splitlines()[1:] == ["", out.strip()]
    assert make_write.cache_info().misses == searches
    with pytest.raises(SystemExit):
        command(monkeypatch, capsys, translate_command, tmp_path, "d e", *arguments[1:])
    assert "a picture is of one sentence, got 2" in capsys.readouterr().err

    reach = tmp_path / "reach.png"
    command(monkeypatch, capsys, plot, tmp_path, "--words", 4, "--picture", reach)
    assert reach.stat().st_size > 1000
    with pytest.raises(SystemExit):
        command(monkeypatch, capsys, plot, tmp_path, "--words", 40, "--picture", reach)
    assert "words must be" in capsys.readouterr().err

    pytest.importorskip("sacrebleu")
    figures = json.loads(command(monkeypatch, capsys, evaluate, tmp_path))
    assert 0 <= figures["token_bleu"] <= 100
    assert "tok:none" in figures["token_bleu_signature"]


def test_the_share_of_true_words_falls_linearly_and_batches_are_those_of_their_step():
    config = replace(TINY, teacher_forcing=(1.0, 0.5))
    problem, again = make_problem(config), make_problem(config)
    rows = np.arange(config.batch_size)
    for step, share in ((0, 1.0), (20, 0.75), (40, 0.5)):
        batch = problem.batch(step, rows)
        np.testing.assert_allclose(batch.forced, share)
        chex.assert_trees_all_equal(batch, again.batch(step, rows))


def test_options_that_do_not_fit_are_refused(tmp_path):
    config = replace(TINY, run_dir=tmp_path)
    for change, message in [
        ({"model": "transformer", "teacher_forcing": (1.0, 0.5)}, "teacher_forcing 1 1"),
        ({"teacher_forcing": (1.0, 1.5)}, r"two shares in \[0, 1\], got 1.0 and 1.5"),
        ({"longest": 1}, "no pair of sentences has 1 tokens"),
        ({"cell": "gruu"}, "unknown cell 'gruu'"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_problem(replace(config, **change))


def test_pairs_too_few_to_divide_are_refused(tmp_path):
    (tmp_path / "pairs.txt").write_text("a dog\tun perro\na cat\tun gato\n")
    config = replace(TINY, corpus="pairs", data=tmp_path / "pairs.txt")
    with pytest.raises(ValueError, match="too few pairs to divide: none falls to 'valid'"):
        make_problem(config)


def test_scores_are_sacrebleus_and_know_a_perfect_translation():
    pytest.importorskip("sacrebleu")
    from experiments.translation.scores import scores

    true = ["A man is reading a book.", "Two dogs run on the green grass."]
    vocabulary = Vocabulary.of_words(true, 1)
    tokens = [vocabulary.decode(vocabulary.encode(sentence)) for sentence in true]
    figures = scores(tokens, true, vocabulary)
    for name in ("bleu", "chrf", "token_bleu"):
        assert figures[name] == pytest.approx(100)
    assert "case:lc" in figures["bleu_signature"]

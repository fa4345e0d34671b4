from collections import Counter
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    Elman,
    Residual,
    Stack,
    VariationalDropout,
    WeightDrop,
    Zoneout,
    unroll,
)
from jaxrnn.models import LanguageModel, Sampling, sample

V, E = 7, 4

LAYERS = {
    "cells": (LSTM(E, 5), GRU(5, 3)),
    "a composition first": (Residual(Elman(E, E)), LSTM(E, 3)),
    "a stack": (Stack((GRU(E, 3), Elman(3, 5))),),
    "a cell that prepares its inputs": (Zoneout(LSTM(E, 3), 0.2),),
}


def new_model(layers=LAYERS["cells"], **options):
    return LanguageModel(V, E, layers, rngs=nnx.Rngs(params=jax.random.key(1)), **options)


make_model = cache(new_model)  # not to be changed


def some_tokens(*shape):
    return jnp.asarray(np.random.default_rng(0).integers(0, V, shape), jnp.int32)


@nnx.jit
def run(model, tokens, carry=None, key=None):
    return model(tokens, carry, key=key)


# The model.


def test_logits_and_carry_have_the_documented_shapes():
    model = make_model()
    for batch in ((), (2,), (2, 3)):
        carry, logits = jax.eval_shape(model, some_tokens(6, *batch))
        assert logits.shape == (6, *batch, V)
        assert [a.shape for a in jax.tree.leaves(carry)] == [
            (*batch, 5),
            (*batch, 5),
            (*batch, 3),
        ]
        chex.assert_trees_all_equal_shapes_and_dtypes(carry, model.initial_carry(batch))


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("tied", [False, True])
def test_two_halves_are_one_whole_and_a_stepper_is_the_model_step_by_step(layers, tied):
    model, tokens = make_model(layers, tied=tied), some_tokens(6, 2)
    want_carry, want = run(model, tokens)

    carry, first = run(model, tokens[:3])
    carry, second = run(model, tokens[3:], carry)
    got = carry, jnp.concatenate([first, second])
    chex.assert_trees_all_close(got, (want_carry, want), atol=1e-6)
    assert not np.allclose(second, run(model, tokens[3:])[1], atol=1e-4)

    step, carry, logits = jax.jit(model.stepper()), model.initial_carry((2,)), []
    for token in tokens:
        carry, now = step(carry, token)
        logits.append(now)
    chex.assert_trees_all_close((carry, jnp.stack(logits)), (want_carry, want), atol=1e-6)


def test_masked_steps_hold_the_carry_and_resets_begin_anew():
    model, tokens = make_model(), some_tokens(5, 2)
    mask = jnp.array([True, True, False, False, False])[:, None].repeat(2, 1)
    carry, _ = model(tokens, mask=mask)
    chex.assert_trees_all_close(carry, run(model, tokens[:2])[0], atol=1e-6)
    reset = jnp.zeros((5, 2), bool).at[3].set(True)
    carry, logits = model(tokens, reset=reset)
    chex.assert_trees_all_close((carry, logits[3:]), run(model, tokens[3:]), atol=1e-6)


def test_dropout_happens_with_a_key_only_and_the_same_for_the_same_key():
    model, plain, tokens = make_model(dropout=0.5), make_model(), some_tokens(4, 3)
    chex.assert_trees_all_equal(run(model, tokens), run(plain, tokens))
    keys = jax.random.split(jax.random.key(0))
    a, b = (run(model, tokens, key=key)[1] for key in keys)
    assert not np.allclose(a, b) and not np.allclose(a, run(model, tokens)[1])
    chex.assert_trees_all_equal(run(model, tokens, key=keys[0])[1], a)
    chex.assert_trees_all_equal(run(plain, tokens, key=keys[0]), run(plain, tokens))


NOISY = {
    "weight drop": WeightDrop(LSTM(E, 5), 0.5),
    "variational dropout": VariationalDropout(GRU(E, 5), 0.5),
    "zoneout in a stack": Stack((Zoneout(LSTM(E, 5), 0.5),)),
}


@pytest.mark.parametrize("layer", NOISY.values(), ids=NOISY)
def test_the_noise_of_a_layer_happens_with_a_key_only(layer):
    model, tokens = new_model((layer,)), some_tokens(6, 3)
    plain = run(model, tokens)
    first, again, other = (run(model, tokens, key=jax.random.key(s)) for s in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert not np.allclose(first[1], plain[1]) and not np.allclose(first[1], other[1])


def test_each_layer_has_noise_of_its_own(monkeypatch):
    keys, with_noise = [], WeightDrop.with_noise

    def record(self, params, key, *shape):
        keys.append(tuple(jax.random.key_data(key).tolist()))
        return with_noise(self, params, key, *shape)

    monkeypatch.setattr(WeightDrop, "with_noise", record)
    model = new_model([WeightDrop(Elman(E, E), 0.5)] * 2)
    model(some_tokens(3), key=jax.random.key(0))
    assert len(keys) == len(set(keys)) == 2


def test_dropout_is_that_of_its_keys_to_the_bit_whatever_noise_is_drawn():
    model, tokens, key = make_model(dropout=0.5), some_tokens(4, 3), jax.random.key(3)
    below, *keys = jax.random.split(key, 3)
    enter, *others = model.dropouts
    xs = enter(model.embedding(tokens), rngs=below)
    for layer, drop, layer_key in zip(model.layers, others, keys, strict=True):
        _, xs = unroll(layer.recurrence, layer.arrays(), xs)
        xs = drop(xs, rngs=layer_key)
    chex.assert_trees_all_equal(model(tokens, key=key)[1], model.logits(xs))


@pytest.mark.parametrize("over_time, distinct", [("shared", 1), ("each", 4)])
def test_dropout_masks_are_one_for_all_of_time_or_one_a_step(over_time, distinct):
    width = 32
    model = LanguageModel(
        V,
        width,
        [Elman(width, 3)],
        dropout=0.5,
        dropout_over_time=over_time,
        rngs=nnx.Rngs(0),
    )
    dropped = model.dropouts[0](jnp.ones((4, 3, width)), rngs=jax.random.key(0))
    assert {0.0, 2.0} == set(np.unique(dropped))
    assert 0.3 < float((dropped == 0).mean()) < 0.7
    masks = np.asarray(dropped == 0)
    assert len({masks[t].tobytes() for t in range(4)}) == distinct
    assert len({masks[:, row].tobytes() for row in range(3)}) == 3


@pytest.mark.parametrize(
    "dropout, rates", [(0.5, [0.5, 0.5, 0.5]), ((0.1, 0.6, 0.3), [0.1, 0.6, 0.3])]
)
def test_each_place_of_dropout_has_masks_and_a_rate_of_its_own(monkeypatch, dropout, rates):
    # Inputs and outputs of the same width: equal masks would be seen at once.
    layers = [Residual(Elman(E, E))] * 2
    model = new_model(layers, dropout=dropout, dropout_over_time="shared")
    seen, call = [], nnx.Dropout.__call__

    def record(self, xs, **options):
        seen.append(np.asarray(call(self, jnp.ones((1, 500, E)), **options)))
        return call(self, xs, **options)

    monkeypatch.setattr(nnx.Dropout, "__call__", record)
    model(some_tokens(3), key=jax.random.key(0))
    assert len({mask.tobytes() for mask in seen}) == 3
    np.testing.assert_allclose([(mask == 0).mean() for mask in seen], rates, atol=0.05)


def test_tied_weights_are_one_array_and_its_gradient_is_the_sum_of_both_uses():
    model, tokens = make_model((Elman(E, E),), tied=True), some_tokens(3, 2)
    names = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model))}
    assert not any("output" in name or "narrow" in name for name in names)
    assert sum("embedding" in name for name in names) == 1
    layer, bias = model.layers[0], model.bias[...]

    def loss(enter, leave):
        _, ys = unroll(layer.recurrence, layer.arrays(), enter[tokens])
        return jnp.sum(jnp.sin(ys @ leave.T + bias))

    def whole(model):
        return jnp.sum(jnp.sin(model(tokens)[1]))

    table = model.embedding.embedding[...]
    parts = jax.jit(jax.grad(loss, argnums=(0, 1)))(table, table)
    gradient = nnx.jit(nnx.grad(whole))(model).embedding.embedding[...]
    assert all(float(jnp.abs(part).max()) > 1e-3 for part in parts)
    chex.assert_trees_all_close(gradient, parts[0] + parts[1], rtol=1e-5, atol=1e-5)


def test_tied_weights_of_another_width_are_reached_through_a_linear_map():
    model = new_model(tied=True)
    assert model.narrow.kernel[...].shape == (3, E)
    ys = jnp.ones((2, 3))
    table, bias = model.embedding.embedding[...], jnp.arange(V, dtype=jnp.float32)
    model.bias[...] = bias
    want = ys @ model.narrow.kernel[...] @ table.T + bias
    chex.assert_trees_all_close(model.logits(ys), want, atol=1e-6)


@pytest.mark.parametrize(
    "layers, options, message",
    [
        ((LSTM(5, 3),), {}, "takes 5 features, not 4"),
        ((LSTM(E, 3), GRU(4, 3)), {}, "takes 4 features, not 3"),
        ((), {}, "at least one layer"),
        ((LSTM(E, 3),), {"dropout": 1.0}, r"\[0, 1\), got 1.0"),
        ((LSTM(E, 3),), {"dropout": (0.1, -0.1, 0.1)}, r"\[0, 1\), got \(0.1, -0.1"),
        ((LSTM(E, 3),), {"dropout_over_time": "some"}, "'each' or 'shared', got 'some'"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(layers, options, message):
    with pytest.raises(ValueError, match=message):
        make_model(layers, **options)


def test_a_model_that_needs_the_future_does_not_step():
    model = make_model((Bidirectional(GRU(E, 2), GRU(E, 2)),))
    with pytest.raises(ValueError, match="cannot step"):
        sample(model, some_tokens(2, 1), 3, jax.random.key(0), Sampling())


def test_a_norm_stands_before_the_output_layer():
    model, ys = new_model(norm=True), jnp.array([[1.0, 2.0, 6.0], [0.0, 1.0, 5.0]])
    normed = (ys - ys.mean(-1, keepdims=True)) / ys.std(-1, keepdims=True)
    chex.assert_trees_all_close(model.logits(ys), model.output(normed), atol=1e-4)


# Drawing from logits.

LOGITS = np.array([0.3, 2.0, -1.0, 1.4, 0.9, -3.0, 1.1])


def reference(how):
    """The probabilities of a draw, in NumPy."""
    scaled = LOGITS / how.temperature
    order = np.argsort(-scaled)
    kept = order[: how.top_k] if how.top_k else order
    weights = np.exp(scaled[kept] - scaled.max())
    if how.top_p is not None:
        share = weights / weights.sum()
        count = int(np.sum(np.cumsum(share) - share < how.top_p))
        kept, weights = kept[:count], weights[:count]
    probabilities = np.zeros(V)
    probabilities[kept] = weights / weights.sum()
    return probabilities


@pytest.mark.parametrize(
    "how, kept",
    [
        (Sampling(), 7),
        (Sampling(temperature=0.5), 7),
        (Sampling(temperature=3.0, top_k=3), 3),
        (Sampling(top_k=1), 1),
        (Sampling(top_k=99), 7),
        (Sampling(top_p=0.7), 3),
        (Sampling(temperature=0.3, top_p=0.6), 1),
        (Sampling(top_p=1e-9), 1),
        (Sampling(top_p=1.0), 7),
        (Sampling(top_k=4, top_p=0.7), 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_draws_follow_the_softmax_of_what_is_kept(how, kept, dtype):
    want = reference(how)
    assert np.count_nonzero(want) == kept
    n = 20_000
    uniform = jax.random.uniform(jax.random.key(0), (n,))
    logits = jnp.broadcast_to(jnp.asarray(LOGITS, dtype), (n, V))
    drawn = jax.jit(how.draw)(logits, uniform)
    assert drawn.dtype == jnp.int32
    counts = np.bincount(drawn, minlength=V)
    assert len(counts) == V and not counts[want == 0].any()
    expected = n * want[want > 0]
    # Six degrees of freedom at most: a fair draw stays below 28 but once in 10,000.
    assert np.sum((counts[want > 0] - expected) ** 2 / expected) < 28


@pytest.mark.parametrize(
    "how", [Sampling(), Sampling(top_k=2), Sampling(top_p=0.4)], ids=str
)
def test_the_ends_of_the_uniform_range_draw_a_kept_token(how):
    ends = jnp.array([0.0, np.nextafter(np.float32(1), np.float32(0))])
    for logits in (LOGITS, LOGITS[::-1], 40 * LOGITS):
        drawn = how.draw(jnp.asarray(np.stack([logits] * 2), jnp.float32), ends)
        allowed = np.argsort(-logits)[:2] if how != Sampling() else range(V)
        assert set(np.asarray(drawn).tolist()) <= set(allowed)


def test_temperature_zero_takes_the_likeliest_whatever_is_drawn():
    uniform = jnp.linspace(0, 0.999, 5)
    logits = jnp.broadcast_to(jnp.asarray(LOGITS, jnp.float32), (5, V))
    assert Sampling(temperature=0).draw(logits, uniform).tolist() == [1] * 5


@pytest.mark.parametrize(
    "dtype, size",
    [
        ("float32", 1),
        ("bfloat16", 300),
        ("float16", 300),
        ("float64", 300),
        ("bfloat16", 200_000),
    ],
)
def test_only_tokens_that_exist_are_drawn_and_all_parts_as_often(dtype, size):
    """Equal logits: each tenth of the vocabulary gets a tenth of the draws."""
    n, parts = 50, min(size, 10)
    with jax.enable_x64(dtype == "float64"):
        logits = jnp.zeros((n + 1, size), dtype)
        uniform = jnp.asarray(np.append(np.arange(n) / n, 1 - 2.0**-53))  # 1 in float32
        drawn = np.asarray(jax.jit(Sampling(0.7).draw)(logits, uniform))
    assert drawn.min() >= 0 and drawn.max() < size
    counts = np.bincount(drawn[:n] * parts // size, minlength=parts)
    assert np.all(np.abs(counts - n / parts) <= 1)


@pytest.mark.parametrize(
    "logits, temperature, allowed",
    [
        ([0.0, 1.0, 0.5], 1e-30, [1]),
        ([0.0, 1.0, 0.5], 1e-45, [1]),
        ([0.0, 1.0, 0.5], 1e-300, [1]),
        ([0.0, 1.0, 0.5], 1e30, [0, 1, 2]),
        ([0.0, 1.0, 0.5], float("inf"), [0, 1, 2]),
        ([3e38, -3e38, 3e38], 1.0, [0, 2]),
        ([1e30, 1e30, -1e30], 1e-3, [0, 1]),
        ([-1e30, -2e30, -1e30], 1e4, [0, 2]),
        ([-np.inf, 0.0, -np.inf, 5.0, -np.inf], float("inf"), [1, 3]),
        ([-np.inf, 0.0, -np.inf, 0.1, -np.inf], 1.0, [1, 3]),
        ([-np.inf, 0.0, -np.inf, 0.1, -np.inf], 0, [3]),
        ([0.0, np.inf, 1.0, np.inf], 0.5, [1, 3]),
        ([-np.inf, -np.inf], 1.0, [-1]),
        ([-np.inf, -np.inf], 0, [-1]),
        ([0.0, np.nan, 1.0], 1.0, [-1]),
        ([0.0, np.nan, 1.0], 0, [-1]),
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kept", [{}, {"top_k": 4}, {"top_p": 1.0}], ids=str)
def test_logits_and_temperatures_of_any_size_are_drawn_from(
    logits, temperature, allowed, dtype, kept
):
    how = Sampling(temperature, **kept)
    uniform = jnp.linspace(0, 1, 101)
    drawn = how.draw(jnp.tile(jnp.asarray(logits, dtype), (101, 1)), uniform)
    assert sorted(set(np.asarray(drawn).tolist())) == allowed


def test_of_equally_likely_tokens_no_more_than_k_or_p_are_kept():
    uniform, logits = jnp.linspace(0, 1, 101), jnp.zeros((101, 8), jnp.bfloat16)
    for how in (Sampling(top_k=2), Sampling(top_p=0.25)):
        assert len(set(np.asarray(how.draw(logits, uniform)).tolist())) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": -0.1}, "temperature must be 0 or more, got -0.1"),
        ({"temperature": float("nan")}, "temperature must be 0 or more, got nan"),
        ({"top_k": 0}, "top_k must be 1 or more, got 0"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\], got 0.0"),
        ({"top_p": 1.1}, r"top_p must lie in \(0, 1\], got 1.1"),
    ],
)
def test_sampling_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**options)


# Writing text.


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_greedy_text_is_the_argmax_of_the_model_run_step_by_step(layers):
    model, prompt = make_model(layers), some_tokens(3, 2)
    text = sample(model, prompt, 8, jax.random.key(0), Sampling(temperature=0))
    assert text.shape == (8, 2) and text.dtype == jnp.int32
    carry, logits = run(model, prompt)
    for token in text:
        chex.assert_trees_all_equal(token, jnp.argmax(logits[-1], -1).astype(jnp.int32))
        carry, logits = run(model, token[None], carry)


def test_the_same_seed_writes_the_same_text_and_another_one_another():
    model, prompt = make_model(), some_tokens(1, 2)
    texts = [sample(model, prompt, 30, jax.random.key(s), Sampling()) for s in (0, 0, 1)]
    chex.assert_trees_all_equal(texts[0], texts[1])
    assert not np.array_equal(texts[0], texts[2])


def test_one_program_serves_all_temperatures_and_shares(monkeypatch):
    model, prompt, traces = new_model((Elman(E, 3),)), some_tokens(1, 2), []
    stepper = LanguageModel.stepper
    monkeypatch.setattr(
        LanguageModel, "stepper", lambda model: traces.append(1) or stepper(model)
    )
    for how in [Sampling(t) for t in (0.31, 1, 0, np.float32(2), 1e-9, 1e50)]:
        sample(model, prompt, 17, jax.random.key(0), how)
    assert len(traces) == 1
    for p in (0.5, 0.75, 1):
        sample(model, prompt, 17, jax.random.key(0), Sampling(top_p=p))
    assert len(traces) == 2


def test_a_model_gone_bad_writes_nothing():
    model = new_model((Elman(E, 3),))
    model.output.bias[...] = jnp.full(V, jnp.nan)
    for temperature in (0, 1):
        with pytest.raises(ValueError, match="logits are NaN"):
            sample(model, some_tokens(1, 2), 3, jax.random.key(0), Sampling(temperature))


def test_columns_are_independent_of_one_another():
    model, how = make_model(), Sampling()
    prompt = jnp.zeros((2, 2), jnp.int32)
    text = sample(model, prompt, 30, jax.random.key(0), how)
    assert not np.array_equal(text[:, 0], text[:, 1])
    other = sample(model, prompt.at[:, 1].set(3), 30, jax.random.key(0), how)
    chex.assert_trees_all_equal(other[:, 0], text[:, 0])


def test_a_longer_text_of_many_columns_follows_the_model():
    """The share of each second token is that of the model after the first."""
    model, columns = new_model((Elman(E, 3),)), 4000
    model.output.kernel[...] = 3 * model.output.kernel[...]
    text = sample(
        model, jnp.ones((1, columns), jnp.int32), 2, jax.random.key(0), Sampling()
    )
    first = Counter(np.asarray(text[0]).tolist()).most_common(1)[0][0]
    second = np.asarray(text[1, np.asarray(text[0]) == first])
    logits = run(model, jnp.array([[1], [first]]))[1][-1, 0]
    expected = len(second) * np.asarray(jax.nn.softmax(logits))
    counts = np.bincount(second, minlength=V)
    assert np.sum((counts - expected) ** 2 / expected) < 28


@pytest.mark.parametrize(
    "shape, length, message",
    [
        ((0, 2), 3, r"T of 1 or more, got \(0, 2\)"),
        ((3,), 3, r"got \(3,\)"),
        ((3, 2), 0, "length must be 1 or more, got 0"),
    ],
)
def test_an_empty_prompt_or_length_is_refused(shape, length, message):
    with pytest.raises(ValueError, match=message):
        sample(make_model(), some_tokens(*shape), length, jax.random.key(0), Sampling())

"""Weights from and to Haiku: the same function and gradients, round trips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert_parity import (
    B,
    T,
    assert_close,
    assert_equal,
    assert_same_function,
    random_params,
)

from jaxrnn import GRU, LSTM, Bidirectional, Elman, ResetBeforeGRU
from jaxrnn.convert import from_haiku, to_haiku

hk = pytest.importorskip("haiku")

CORES = {"lstm": hk.LSTM, "gru": hk.GRU, "vanilla_rnn": hk.VanillaRNN}


def unrolled(core):
    def forward(xs):
        built = core()
        start = jax.tree.map(lambda x: x.astype(xs.dtype), built.initial_state(xs.shape[1]))
        ys, state = hk.dynamic_unroll(built, xs, start)
        return state, ys

    return hk.without_apply_rng(hk.transform(forward))


def weights_of(forward, precision):
    xs = jnp.zeros((T, B, precision.sizes[0]), precision.dtype)
    with jax.numpy_dtype_promotion("standard"):
        return precision.like(jax.eval_shape(forward.init, jax.random.key(0), xs))


@pytest.mark.parametrize("name", CORES)
def test_a_core_and_its_recurrence_are_the_same_function(name, precision):
    d, h = precision.sizes
    forward = unrolled(lambda: CORES[name](h))
    weights = weights_of(forward, precision)
    ours, theirs = assert_same_function(from_haiku, forward.apply, weights, precision, d)
    theirs = tuple(theirs) if name == "lstm" else (theirs,)
    assert_close(tuple(ours), theirs, precision.tolerance)


@pytest.mark.parametrize("name", CORES)
def test_a_core_gives_what_it_gave_after_a_round_trip(name, precision):
    forward = unrolled(lambda: CORES[name](precision.sizes[1]))
    weights = weights_of(forward, precision)
    again = to_haiku(*from_haiku(weights))
    if name == "gru":
        assert_equal(again, weights)
    xs = jnp.asarray(precision.draw(T, B, precision.sizes[0]))
    with jax.numpy_dtype_promotion("standard"):
        actual, expected = forward.apply(again, xs), forward.apply(weights, xs)
    assert_close(actual, expected, precision.tolerance)


@pytest.mark.parametrize("recurrence", [ResetBeforeGRU(3, 4), Elman(3, 4, "relu")], ids=str)
def test_params_come_back_bit_for_bit(recurrence, precision):
    params = random_params(recurrence, precision)
    again, params_again = from_haiku(to_haiku(recurrence, params))
    assert again == recurrence
    assert_equal(params_again, params)


def test_an_lstm_comes_back_but_for_the_rounding_of_its_forget_bias(precision):
    params = random_params(LSTM(3, 4), precision)
    again, params_again = from_haiku(to_haiku(LSTM(3, 4), params))
    assert again == LSTM(3, 4)
    assert_equal(params_again._replace(b=params.b), params)
    forget = slice(4, 8)
    assert_equal(params_again.b.at[forget].set(0), params.b.at[forget].set(0))
    rounding = np.finfo(precision.dtype).eps * (1 + jnp.abs(params.b[forget]))
    assert jnp.all(jnp.abs(params_again.b - params.b)[forget] <= rounding)


def test_forget_biases_near_one_come_back_bit_for_bit():
    params = LSTM(3, 4).init(jax.random.key(0))
    params = params._replace(b=params.b.at[4:8].set(jnp.array([0.5, 0.7, 1.3, 2.0])))
    assert_equal(from_haiku(to_haiku(LSTM(3, 4), params))[1], params)


def test_the_one_that_haiku_adds_at_run_time_is_in_our_bias():
    weights = {"lstm/linear": {"w": jnp.ones((7, 16)), "b": jnp.zeros(16)}}
    _, params = from_haiku(weights)
    np.testing.assert_array_equal(params.b, [0] * 4 + [1] * 4 + [0] * 8)
    fresh = LSTM(3, 4).init(jax.random.key(0))
    assert not np.any(to_haiku(LSTM(3, 4), fresh)["lstm/linear"]["b"])


def test_haikus_update_gate_is_ours_negated():
    b = jnp.repeat(jnp.array([1.0, 2.0, 3.0]), 4)  # z, r, a
    weights = {"gru": {"w_i": jnp.ones((3, 12)), "w_h": jnp.ones((4, 12)), "b": b}}
    _, params = from_haiku(weights)
    np.testing.assert_array_equal(params.b, np.repeat([2.0, -1.0, 3.0], 4))


def test_a_single_bias_is_enough_for_a_vanilla_rnn():
    forward = hk.transform(lambda x, h: hk.VanillaRNN(4, double_bias=False)(x, h))
    weights = forward.init(jax.random.key(0), jnp.ones(3), jnp.ones(4))
    recurrence, params = from_haiku(weights)
    assert recurrence == Elman(3, 4, activation="relu")
    assert_equal(params.b, weights["vanilla_rnn/linear"]["b"])


def test_a_name_picks_one_core_out_of_a_model():
    gru, lstm = ResetBeforeGRU(3, 4), LSTM(3, 4)
    params = gru.init(jax.random.key(0))
    model = to_haiku(lstm, lstm.init(jax.random.key(1)), "net/~/lstm")
    model |= to_haiku(gru, params, "net/~/gru")
    recurrence, params_again = from_haiku(model, "net/~/gru")
    assert recurrence == gru
    assert_equal(params_again, params)
    with pytest.raises(ValueError, match="one VanillaRNN, LSTM or GRU is wanted"):
        from_haiku(model)


@pytest.mark.parametrize(
    "recurrence, reason",
    [
        (GRU(3, 4), "resets before the product"),
        (Elman(3, 4), "has ReLU only"),
        (Bidirectional(LSTM(3, 4), LSTM(3, 4)), "what converts is"),
    ],
    ids=str,
)
def test_what_haiku_cannot_hold_is_refused(recurrence, reason):
    with pytest.raises(ValueError, match=f"Haiku cannot hold.*{reason}"):
        to_haiku(recurrence, recurrence.init(jax.random.key(0)))


def misfit(recurrence, path, change):
    tree = to_haiku(recurrence, recurrence.init(jax.random.key(0)))
    module, leaf = path.rsplit("/", 1)
    tree[module][leaf] = change(tree[module].get(leaf))
    return tree


@pytest.mark.parametrize(
    "recurrence, path, change, reason",
    [
        (LSTM(3, 4), "lstm/linear/w", lambda w: w[:4], r"\[D \+ H, 4H\] .* \[4, 16\]"),
        (LSTM(3, 4), "lstm/linear/w", lambda w: w.T, r"got \[16, 7\]: it is none"),
        (LSTM(3, 4), "lstm/linear/w", lambda w: w[None], "must be a matrix"),
        (LSTM(3, 4), "lstm/linear/b", lambda b: b[:1], r"linear/b must be \[16\]"),
        (LSTM(3, 4), "lstm/linear/gain", lambda _: jnp.ones(16), "'gain'"),
        (ResetBeforeGRU(3, 4), "gru/w_h", lambda w: w.T, r"w_i must be \[3, 36\]"),
        (ResetBeforeGRU(3, 4), "gru/b", lambda b: b[:4], r"gru/b must be \[12\]"),
        (
            Elman(3, 4, "relu"),
            "vanilla_rnn/linear_1/w",
            lambda w: w[:3],
            r"linear_1/w must be \[4, 4\] .*got \[3, 4\]",
        ),
        (
            Elman(3, 4, "relu"),
            "vanilla_rnn/linear_1/b",
            lambda b: b.astype(jnp.bfloat16),
            "linear_1/b is bfloat16",
        ),
        (Elman(3, 4, "relu"), "vanilla_rnn/linear/w", lambda w: w > 0, "got bool"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(recurrence, path, change, reason):
    with pytest.raises(ValueError, match=reason):
        from_haiku(misfit(recurrence, path, change))


def test_a_plain_linear_module_is_no_core():
    linear = {"w": jnp.ones((7, 16)), "b": jnp.zeros(16)}
    apart = {"a/linear": linear, "b/linear_1": linear}
    for params in ({"linear": linear}, {"linear": linear, "linear_1": linear}, apart):
        with pytest.raises(ValueError, match="one VanillaRNN, LSTM or GRU is wanted"):
            from_haiku(params)
    with pytest.raises(ValueError, match=r"dicts of dicts, got \['b', 'w'\]"):
        from_haiku(linear)

"""Weights from and to Keras 3: the same function and gradients, exact round trips."""

import os

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

from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    Elman,
    ResetBeforeGRU,
    Residual,
    Stack,
    unroll,
)
from jaxrnn.convert import from_keras, to_keras

os.environ["KERAS_BACKEND"] = "jax"
keras = pytest.importorskip("keras")
layers = keras.layers

OPTIONS = {"return_sequences": True, "return_state": True}

LAYERS = {
    "lstm": lambda h, **o: layers.LSTM(h, **o),
    "gru": lambda h, **o: layers.GRU(h, **o),
    "reset_before_gru": lambda h, **o: layers.GRU(h, reset_after=False, **o),
    "hard_lstm": lambda h, **o: layers.LSTM(
        h, activation="softsign", recurrent_activation="hard_sigmoid", **o
    ),
    "hard_gru": lambda h, **o: layers.GRU(
        h, activation="elu", recurrent_activation="hard_sigmoid", **o
    ),
    "relu_gru": lambda h, **o: layers.GRU(h, activation="relu", reset_after=False, **o),
    "simple": lambda h, **o: layers.SimpleRNN(h, **o),
    "relu": lambda h, **o: layers.SimpleRNN(h, activation="relu", **o),
    "bidirectional_concat": lambda h, **o: layers.Bidirectional(layers.LSTM(h, **o)),
    "bidirectional_ave": lambda h, **o: layers.Bidirectional(
        layers.SimpleRNN(h, **o), merge_mode="ave"
    ),
    "stacked_cells": lambda h, **o: layers.RNN(
        layers.StackedRNNCells([layers.SimpleRNNCell(h), layers.SimpleRNNCell(h + 1)]), **o
    ),
}

RECURRENCES = {
    "lstm": LSTM(3, 4),
    "gru": GRU(3, 4),
    "reset_before_gru": ResetBeforeGRU(3, 4),
    "hard_lstm": LSTM(
        3,
        4,
        gate_activation="hard_sigmoid[1/6]",
        candidate_activation="softsign",
        output_activation="softsign",
    ),
    "hard_gru": GRU(3, 4, gate_activation="hard_sigmoid[1/6]", candidate_activation="elu"),
    "relu_gru": ResetBeforeGRU(3, 4, candidate_activation="relu"),
    "simple": Elman(3, 4),
    "relu": Elman(3, 4, activation="relu"),
    "bidirectional_concat": Bidirectional(LSTM(3, 4), LSTM(3, 4)),
    "bidirectional_ave": Bidirectional(Elman(3, 4), Elman(3, 4), merge="mean"),
}


def build(name, dtype, d, h):
    layer = LAYERS[name](h, dtype=np.dtype(dtype).name, **OPTIONS)
    layer.build((None, None, d))
    return layer


@pytest.fixture(autouse=True)
def free_promotion():
    """Keras promotes dtypes freely, when it builds a layer and when it runs one."""
    with jax.numpy_dtype_promotion("standard"):
        yield


# The tanh of Keras computes in float32 on JAX, whatever the layer's dtype.
IN_BOTH = [(name, "float32") for name in LAYERS] + [
    ("relu", "float64"),
    ("hard_lstm", "float64"),
]


@pytest.mark.parametrize("name, precision", IN_BOTH, indirect=["precision"])
def test_a_layer_and_its_recurrence_are_the_same_function(name, precision):
    d, h = precision.sizes
    layer = build(name, precision.dtype, d, h)
    weights = precision.like([w.value for w in layer.weights])

    def scope(weights):
        return keras.StatelessScope(zip(layer.weights, weights, strict=True))

    def convert(weights):
        with scope(weights):
            return from_keras(layer)

    def peer(weights, xs):
        with scope(weights):
            ys, *carry = layer(jnp.swapaxes(xs, 0, 1))
        return carry, jnp.swapaxes(ys, 0, 1)

    ours, theirs = assert_same_function(convert, peer, weights, precision, d)
    assert_close(jax.tree.leaves(ours), jax.tree.leaves(theirs), precision.tolerance)


@pytest.mark.parametrize("name", RECURRENCES)
def test_params_come_back_bit_for_bit_through_a_layer(name, precision):
    recurrence = RECURRENCES[name]
    params = random_params(recurrence, precision)
    layer = build(name, precision.dtype, 3, 4)
    weights = to_keras(recurrence, params)
    layer.set_weights(weights)
    again, params_again = from_keras(layer)
    assert again == recurrence
    assert_equal(params_again, params)


def test_a_list_of_layers_is_a_stack():
    model = keras.Sequential(
        [
            keras.Input((T, 3)),
            layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode="mul"),
            layers.LSTM(2),
        ]
    )
    recurrence, params = from_keras(model.layers)
    both = Bidirectional(GRU(3, 4), GRU(3, 4), merge="product")
    assert recurrence == Stack((both, LSTM(4, 2)))
    for layer, weights in zip(model.layers, to_keras(recurrence, params), strict=True):
        assert_equal(weights, [np.asarray(w.value) for w in layer.weights])


def test_only_the_reset_after_gru_has_two_biases(precision):
    params = random_params(GRU(3, 4), precision)
    b = to_keras(GRU(3, 4), params)[2]
    assert b.shape == (2, 12)
    np.testing.assert_array_equal(b[1], [0] * 8 + list(params.b_n))
    before = ResetBeforeGRU(3, 4)
    assert to_keras(before, random_params(before, precision))[2].shape == (12,)


@pytest.mark.parametrize("name", ["lstm", "gru", "reset_before_gru", "simple"])
def test_a_layer_without_bias_has_biases_of_zeros(name):
    layer = LAYERS[name](4, use_bias=False)
    layer.build((B, T, 3))
    recurrence, params = from_keras(layer)
    assert recurrence == RECURRENCES[name]
    for field, shape in (
        jax.eval_shape(recurrence.init, jax.random.key(0))._asdict().items()
    ):
        if field.startswith("b"):
            assert_equal(getattr(params, field), jnp.zeros_like(shape))


def test_the_forget_bias_is_in_both_biases():
    layer = build("lstm", np.float32, 3, 4)
    _, params = from_keras(layer)
    assert_equal(params.b, LSTM(3, 4).init(jax.random.key(0)).b)


def twice(x):
    return x + x


@pytest.mark.parametrize(
    "layer, reason",
    [
        (lambda: layers.LSTM(4, activation="gelu"), "the activation 'gelu' of lstm"),
        (
            lambda: layers.GRU(4, recurrent_activation="hard_silu"),
            "recurrent_activation 'hard_silu' of gru",
        ),
        (lambda: layers.SimpleRNN(4, activation="selu"), "'selu' .* none of those"),
        (lambda: layers.SimpleRNN(4, activation=twice), "none of those"),
        (lambda: layers.LSTM(4, go_backwards=True), "go_backwards=True"),
        (lambda: layers.Dense(4), "got Dense"),
        (
            lambda: layers.Bidirectional(layers.LSTM(4), merge_mode=None),
            "must merge by one of",
        ),
    ],
)
def test_layers_that_we_do_not_have_are_refused(layer, reason):
    layer = layer()
    layer.build((B, T, 3))
    with pytest.raises(ValueError, match=reason):
        from_keras(layer)


def test_what_runs_backwards_says_how_to_get_its_outputs():
    layer = layers.LSTM(4, go_backwards=True, return_sequences=True)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(T, B, 3)), jnp.float32)
    want = layer(jnp.swapaxes(xs, 0, 1))
    with pytest.raises(ValueError, match=r"last time step to the first .*: ys\[::-1\]"):
        from_keras(layer)
    layer.go_backwards = False
    _, ys = unroll(*from_keras(layer), xs, reverse=True)
    np.testing.assert_allclose(ys[::-1], jnp.swapaxes(want, 0, 1), atol=1e-5)


class Derived(layers.LSTM):
    """Its `call` may be another function."""


@pytest.mark.parametrize(
    "layer, reason",
    [
        (lambda: layers.LSTM(4, dtype="mixed_bfloat16"), "in bfloat16 with .* float32"),
        (lambda: layers.Bidirectional(layers.GRU(4, dtype="mixed_bfloat16")), "bfloat16"),
        (lambda: layers.LSTM(4, stateful=True), r"\(stateful=True\).* give unroll"),
        (lambda: Derived(4), "got Derived"),
        (lambda: layers.TimeDistributed(layers.Dense(4)), "got TimeDistributed"),
    ],
)
def test_options_that_change_the_function_are_refused(layer, reason):
    layer = layer()
    layer.build((B, T, 3))
    with pytest.raises(ValueError, match=reason):
        from_keras(layer)


def test_what_acts_in_training_alone_does_not_matter():
    options = {"dropout": 0.5, "recurrent_dropout": 0.5, "kernel_regularizer": "l2"}
    layer = layers.LSTM(4, return_sequences=True, recurrent_constraint="non_neg", **options)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(T, B, 3)), jnp.float32)
    want = layer(jnp.swapaxes(xs, 0, 1), training=False)
    _, ys = unroll(*from_keras(layer), xs)
    np.testing.assert_allclose(ys, jnp.swapaxes(want, 0, 1), atol=1e-5)


def test_a_list_is_a_stack_only_if_its_layers_hand_on_all_outputs_in_one_dtype():
    def built(layer, size):
        layer.build((B, T, size))
        return layer

    first = built(layers.LSTM(4), 3)
    with pytest.raises(ValueError, match="return_sequences=False"):
        from_keras([first, built(layers.LSTM(4), 4)])
    first.return_sequences = True
    half = layers.LSTM(4, dtype="float16", recurrent_initializer="zeros")
    with pytest.raises(ValueError, match="the dtypes float16 and float32"):
        from_keras([first, built(half, 4)])
    with pytest.raises(ValueError, match="got an empty list"):
        from_keras([])


def test_a_layer_without_weights_is_refused():
    with pytest.raises(ValueError, match="has no weights yet"):
        from_keras(layers.LSTM(4))


@pytest.mark.parametrize(
    "recurrence, reason",
    [
        (Elman(3, 4, activation="hard_sigmoid"), "hard_sigmoid is another"),
        (LSTM(3, 4, gate_activation="hard_sigmoid"), "hard_sigmoid is another"),
        (LSTM(3, 4, candidate_activation="relu"), "one activation for the candidate"),
        (LSTM(3, 4, cell_clip=1.0), "no other cell_clip"),
        (GRU(3, 4, activation_clip=1.0), "no other activation_clip"),
        (Residual(LSTM(4, 4)), "what converts is LSTM, GRU, ResetBeforeGRU, Elman"),
    ],
    ids=str,
)
def test_what_keras_cannot_hold_is_refused(recurrence, reason):
    with pytest.raises(ValueError, match=f"Keras cannot hold.*{reason}"):
        to_keras(recurrence, recurrence.init(jax.random.key(0)))

"""The flat weight vector of cuDNN: the same function and gradients, exact round trips.

The peer is `jax.experimental.rnn.lstm_ref`, the reference that runs without a GPU.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert_parity import (
    T,
    assert_close,
    assert_equal,
    assert_same_function,
    random_params,
)
from jax.experimental import rnn

from jaxrnn import GRU, LSTM, Bidirectional, Elman, ProjectedLSTM, Stack
from jaxrnn.convert import from_cudnn, to_cudnn


@pytest.mark.parametrize("num_layers, bidirectional", [(1, False), (2, True)])
def test_the_vector_and_its_recurrence_are_the_same_function(
    num_layers,
    bidirectional,
    precision,
):
    d, h = precision.sizes
    layout = (d, h, num_layers, bidirectional)
    weights = jnp.asarray(precision.draw(rnn.get_num_params_in_lstm(*layout)))

    def peer(weights, xs):
        batch = xs.shape[1]
        start = jnp.zeros((num_layers * (1 + bidirectional), batch, h), xs.dtype)
        ys, *carry = rnn.lstm_ref(
            xs.swapaxes(0, 1),
            start,
            start,
            *rnn.unpack_lstm_weights(weights, *layout),
            jnp.full(batch, T, jnp.int32),
            d,
            h,
            num_layers,
            0.0,
            bidirectional,
        )
        return carry, ys.swapaxes(0, 1)

    def convert(weights):
        return from_cudnn(weights, *layout)

    carry, theirs = assert_same_function(convert, peer, weights, precision, d)
    leaves = jax.tree.leaves(carry)
    ours = [jnp.stack(leaves[::2]), jnp.stack(leaves[1::2])]
    assert_close(ours, theirs, precision.tolerance)


@pytest.mark.parametrize(
    "recurrence, num_layers",
    [
        (LSTM(3, 4), 1),
        (Bidirectional(LSTM(3, 4), LSTM(3, 4)), 1),
        (Stack((LSTM(3, 4), LSTM(4, 4), LSTM(4, 4))), 3),
    ],
    ids=str,
)
def test_params_come_back_bit_for_bit(recurrence, num_layers, precision):
    params = random_params(recurrence, precision)
    weights = to_cudnn(recurrence, params)
    both = isinstance(recurrence, Bidirectional)
    assert weights.size == rnn.get_num_params_in_lstm(3, 4, num_layers, both)
    again, params_again = from_cudnn(weights, 3, 4, num_layers, both)
    assert again == recurrence
    assert_equal(params_again, params)


def test_the_vector_made_of_params_unpacks_to_them():
    params = LSTM(3, 4).init(jax.random.key(0))
    weights = to_cudnn(LSTM(3, 4), params)
    w_x, w_h, b_x, b_h = rnn.unpack_lstm_weights(weights, 3, 4, 1, False)
    np.testing.assert_array_equal(w_x[0], params.w_x.T)
    np.testing.assert_array_equal(w_h[0], params.w_h.T)
    np.testing.assert_array_equal(b_x[0], params.b)
    np.testing.assert_array_equal(b_h[0], np.zeros(16))


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"make 144 weights .* got shape \(143,\)"):
        from_cudnn(np.zeros(143, "f"), 3, 4)
    with pytest.raises(ValueError, match=r"make 144 weights .* got shape \(2, 144\)"):
        from_cudnn(np.zeros((2, 144), "f"), 3, 4)


def test_a_vector_of_integers_and_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="vector of weights must hold floating-point"):
        from_cudnn(np.zeros(144, int), 3, 4)
    with pytest.raises(ValueError, match="must be 1 or more, got 3, 4 and 0"):
        from_cudnn(np.zeros(0, "f"), 3, 4, num_layers=0)


@pytest.mark.parametrize(
    "recurrence, reason",
    [
        (GRU(3, 4), "plain LSTMs only"),
        (Elman(3, 4), "plain LSTMs only"),
        (ProjectedLSTM(3, 4, 2), "plain LSTMs only"),
        (Bidirectional(LSTM(3, 4), LSTM(3, 4), merge="sum"), "concatenates"),
        (Stack((LSTM(3, 4), LSTM(4, 5))), "in every layer"),
    ],
    ids=str,
)
def test_what_cudnn_cannot_hold_is_refused(recurrence, reason):
    with pytest.raises(ValueError, match=reason):
        to_cudnn(recurrence, recurrence.init(jax.random.key(0)))

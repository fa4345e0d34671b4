"""ConvLSTM: its equations, Linen's numbers and gradients, features that lie in space."""

import dataclasses
import itertools
import json
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert_parity import assert_close, assert_equal, assert_same_function, random_params
from flax import linen, nnx

from jaxrnn import (
    LSTM,
    Bidirectional,
    ConvLSTM,
    Residual,
    Skip,
    Slower,
    Stack,
    VariationalDropout,
    Zoneout,
    diagnostics,
    unroll,
)
from jaxrnn.convert import from_linen, to_linen
from jaxrnn.flax import RNN, LinenCell, NNXCell, from_dict

T, B, D, H = 4, 2, 2, 3
CELL = ConvLSTM(D, H, (4, 5))
MAKE: Any = ConvLSTM  # of what has another type, too
XS = jax.random.normal(jax.random.key(1), (T, B, 4, 5, D))
SPACES = [((5,), (3,)), ((4, 3), (3, 2)), ((3, 2, 4), (3, 1, 3))]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def convolution(x, w):
    """x [*space, C], w [*kernel, C, N]: at each place the sum over the kernel's places, of
    which one more lies behind the middle than before it where their number is even."""
    space, kernel = x.shape[:-1], w.shape[:-2]
    y = np.zeros((*space, w.shape[-1]))
    for place in np.ndindex(*space):
        for offset in np.ndindex(*kernel):
            at = tuple(
                p + o - (k - 1) // 2 for p, o, k in zip(place, offset, kernel, strict=True)
            )
            if all(0 <= a < n for a, n in zip(at, space, strict=True)):
                y[place] += x[at] @ w[offset]
    return y


@pytest.mark.parametrize("space, kernel", SPACES, ids=str)
def test_it_computes_the_equations_of_its_paper(space, kernel):
    with jax.enable_x64(True):
        cell = ConvLSTM(D, H, space, kernel)
        params = jax.tree.map(np.asarray, cell.init(jax.random.key(0), jnp.float64))
        xs = np.random.default_rng(0).normal(size=(T, *space, D))
        _, ys = unroll(cell, params, jnp.asarray(xs))
    h = c = np.zeros((*space, H))
    for x, y in zip(xs, ys, strict=True):
        z = convolution(x, params.w_x) + convolution(h, params.w_h) + params.b
        i, f, g, o = np.split(z, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(y, h, atol=1e-12)


@pytest.mark.parametrize("space, kernel", SPACES, ids=str)
def test_linens_cell_is_the_same_function(space, kernel, precision):
    peer_cell = linen.ConvLSTMCell(H, kernel, param_dtype=precision.dtype)
    x = jnp.zeros((2, *space, D), precision.dtype)
    start = peer_cell.initialize_carry(jax.random.key(0), x.shape)
    shapes = jax.eval_shape(peer_cell.init, jax.random.key(0), start, x)["params"]

    def convert(weights):
        return from_linen(weights, spatial_shape=space)

    def peer(weights, xs):
        def step(carry, x):
            return peer_cell.apply({"params": weights}, carry, x)

        return jax.lax.scan(step, start, xs)

    sizes = (*space, D)
    weights = precision.like(shapes)
    ours, theirs = assert_same_function(convert, peer, weights, precision, *sizes)
    assert_close(tuple(ours), theirs[::-1], precision.tolerance)


def test_params_come_back_bit_for_bit_through_linen(precision):
    params = random_params(CELL, precision)
    again, params_again = from_linen(to_linen(CELL, params), spatial_shape=(4, 5))
    assert again == CELL
    assert_equal(params_again, params)


def test_linens_params_do_not_tell_how_large_space_is():
    params = CELL.init(jax.random.key(0))
    with pytest.raises(ValueError, match="ConvLSTMCell need spatial_shape, got None"):
        from_linen(to_linen(CELL, params))
    lstm = LSTM(D, H)
    tree = to_linen(lstm, lstm.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="spatial_shape is for a ConvLSTMCell, not LSTM"):
        from_linen(tree, spatial_shape=(4, 5))
    tree = to_linen(CELL, params)
    tree["hh"]["kernel"] = tree["hh"]["kernel"][:2]
    with pytest.raises(ValueError, match=r"hh/kernel must be \[3, 3, 3, 12\] .*got \[2,"):
        from_linen(tree, spatial_shape=(4, 5))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [(), (B,), (B, 2)], ids=str)
def test_flax_runs_it_with_space_among_the_features(batch):
    xs = jax.random.normal(jax.random.key(1), (*batch, T, 4, 5, D))
    cell = NNXCell(CELL, rngs=nnx.Rngs(0))
    params = RNN(CELL, rngs=nnx.Rngs(0)).arrays()
    carry, ys = unroll(CELL, params, jnp.moveaxis(xs, len(batch), 0))
    want = carry, jnp.moveaxis(ys, 0, len(batch))
    assert want[1].shape == (*batch, T, 4, 5, H)
    chex.assert_trees_all_close(nnx.RNN(cell, return_carry=True)(xs), want, atol=1e-6)
    ours = RNN(CELL, rngs=nnx.Rngs(0), time_major=False)
    mask = jnp.ones((*batch, T), bool)
    chex.assert_trees_all_close(ours(xs, mask=mask), want, atol=1e-6)
    rnn = linen.RNN(LinenCell(CELL), return_carry=True)
    variables = rnn.init(jax.random.key(0), xs)
    params = from_dict(CELL, variables["params"]["cell"])
    carry, ys = unroll(CELL, params, jnp.moveaxis(xs, len(batch), 0))
    want = carry, jnp.moveaxis(ys, 0, len(batch))
    chex.assert_trees_all_close(rnn.apply(variables, xs), want, atol=1e-6)


@pytest.mark.parametrize(
    "recurrence, channels",
    [
        (Stack((CELL, ConvLSTM(H, 4, (4, 5), kernel_shape=1))), 4),
        (Bidirectional(CELL, ConvLSTM(D, 1, (4, 5))), H + 1),
        (Skip(CELL), D + H),
        (Residual(ConvLSTM(D, D, (4, 5))), D),
        (Zoneout(CELL, 0.5), H),
        (VariationalDropout(CELL, 0.5), H),
        (Slower(CELL, every=2), H),
    ],
    ids=lambda given: type(given).__name__,
)
def test_compositions_and_wrappers_take_it(recurrence, channels):
    params = recurrence.init(jax.random.key(0))
    noisy = recurrence.with_noise(params, jax.random.key(2), T, (B,))
    mask = jnp.ones((T, B), bool).at[1, 0].set(False)
    _, ys = unroll(recurrence, noisy, XS, mask=mask, reset=~mask)
    assert ys.shape == (T, B, *recurrence.output_shape) == (T, B, 4, 5, channels)
    assert not ys[1, 0].any() and ys[1, 1].any()


def test_the_diagnostics_see_every_place():
    params = CELL.init(jax.random.key(0))
    norms = diagnostics.state_norms(CELL, params, XS)
    assert norms.h.shape == (T, B)
    assert diagnostics.gate_values(CELL, params, XS)["forget"].shape == (T, B, 4, 5, H)
    small = ConvLSTM(1, 1, (3,))
    params, xs = small.init(jax.random.key(0)), jnp.ones((T, 3, 1))
    lags = diagnostics.gradient_by_lag(small, params, xs)
    start = small.initial_carry(params)
    jacobian = jax.jacobian(lambda c: unroll(small, params, xs, c)[1][-1])(start)
    squares = jax.tree.map(lambda leaf: jnp.sum(leaf**2), jacobian)
    np.testing.assert_allclose(lags[-1], jnp.sqrt(sum(squares)), rtol=1e-5)


def test_it_is_saved_as_json_and_takes_one_number_for_the_kernel():
    again = ConvLSTM(**json.loads(json.dumps(dataclasses.asdict(CELL))))
    assert again == CELL == MAKE(D, H, np.array([4, 5]), (3, 3))
    assert hash(again) == hash(CELL) and again.kernel_shape == (3, 3)


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: ConvLSTM(D, H, ()), r"sizes of 1 or more for spatial_shape, got \(\)"),
        (lambda: MAKE(D, H, 5), "for spatial_shape, got 5"),
        (lambda: ConvLSTM(D, H, (4, 0)), r"for spatial_shape, got \(4, 0\)"),
        (lambda: MAKE(D, H, (4,), 2.5), r"for kernel_shape, got \(2.5,\)"),
        (lambda: ConvLSTM(D, H, (4, 5), (3,)), r"kernel of 2 axes .* kernel_shape \(3,\)"),
        (lambda: ConvLSTM(D, H, (1, 1, 1, 1)), "one to 3 axes of space"),
        (lambda: Stack((CELL, LSTM(H, 2))), "gives 4 x 5 x 3, LSTM.* takes 3"),
        (lambda: Bidirectional(CELL, ConvLSTM(D, H, (4, 4))), "4 x 5 x 2 and 4 x 4 x 2"),
        (lambda: Residual(CELL), "got 4 x 5 x 2 and 4 x 5 x 3"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


def test_inputs_that_do_not_fit_are_refused_by_every_axis():
    params = CELL.init(jax.random.key(0))
    for shape in ((T, B, 5, 4, D), (T, 5, D), (4, 5, D), (0, B, 4, 5, D)):
        with pytest.raises(ValueError, match=r"^xs must be \[T, \.\.\., 4, 5, 2\] with T"):
            unroll(CELL, params, jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"^x must be \[\.\.\., 4, 5, 2\] for ConvLSTM"):
        CELL.step(params, CELL.initial_carry(params), XS[0, 0, 0])
    with pytest.raises(ValueError, match=r"^mask must be \[T, \.\.\.\] = \[4, 2\] for xs"):
        unroll(CELL, params, XS, mask=jnp.ones((T, B, 4), bool))
    with pytest.raises(ValueError, match=r"^xs must be \[\.\.\., T, D\] with time_major"):
        RNN(CELL, rngs=nnx.Rngs(0), time_major=False)(XS[0, 0])


def test_no_rows_and_any_number_of_them_are_a_batch():
    params = CELL.init(jax.random.key(0))
    _, ys = unroll(CELL, params, XS)
    for row, (a, b) in enumerate(itertools.product(range(1), range(B))):
        _, alone = unroll(CELL, params, XS[:, row])
        _, deep = unroll(CELL, params, XS[:, None])
        np.testing.assert_allclose(alone, ys[:, row], atol=1e-6)
        np.testing.assert_allclose(deep[:, a, b], ys[:, row], atol=1e-6)
    assert unroll(CELL, params, XS[:, :0])[1].shape == (T, 0, 4, 5, H)

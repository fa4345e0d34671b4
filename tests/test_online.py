"""Learning online against backpropagation through time, in float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import (
    GRU,
    LRU,
    LSTM,
    Bidirectional,
    Elman,
    IndRNN,
    LayerNormLSTM,
    LearnedStart,
    MinGRU,
    ProjectedLSTM,
    ResetBeforeGRU,
    Slower,
    Stack,
    unroll,
)
from jaxrnn.online import RTRL, Diagonal, EProp

T, B = 6, 3
MASK = np.array([[1, 1, 1, 0, 1, 1], [0, 1, 1, 0, 1, 1], [1] * 6], bool).T
RESET = np.array([[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 6], bool).T


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def example(recurrence):
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(recurrence.init, jax.random.key(0))
    params = jax.tree.map(lambda a: jnp.asarray(random.normal(size=a.shape) / 2), shapes)
    xs = jnp.asarray(random.normal(size=(T, B, *recurrence.input_shape)))
    targets = jnp.asarray(random.normal(size=(T, B, *recurrence.output_shape)))
    return params, xs, targets


def backward(recurrence, params, xs, targets):
    """ys, and the gradient of half the squared errors, by backpropagation through time."""

    def loss(params):
        _, ys = unroll(
            recurrence, params, xs, mask=jnp.asarray(MASK), reset=jnp.asarray(RESET)
        )
        return jnp.sum(jnp.where(MASK[..., None], ys - targets, 0.0) ** 2) / 2, ys

    gradient, ys = jax.jit(jax.grad(loss, has_aux=True))(params)
    return ys, gradient


def forward(online, params, xs, targets):
    """The same by `online`, which sees one step at a time."""

    def step(state, inputs):
        x, target, mask, reset = inputs
        state, y, pull = online.step(params, state, x, mask=mask, reset=reset)
        return state, (y, pull(y - target))

    padded = jnp.where(MASK[..., None], xs, jnp.nan)

    @jax.jit
    def run(padded, targets):
        start = online.init(params, (B,))
        return jax.lax.scan(step, start, (padded, targets, MASK, RESET))[1]

    ys, gradients = run(padded, targets)
    return ys, jax.tree.map(lambda g: jnp.sum(g, axis=0), gradients)


def same(got, want):
    chex.assert_trees_all_close(got, want, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "recurrence",
    [
        Elman(2, 3),
        LSTM(2, 3),
        GRU(2, 3),
        ResetBeforeGRU(2, 3),
        LRU(2, 3, state_size=2),
        LearnedStart(Elman(2, 3)),
        Slower(Elman(2, 3), every=2),
        Stack((LSTM(2, 2), GRU(2, 3))),
    ],
    ids=repr,
)
def test_real_time_recurrent_learning_is_backpropagation_through_time(recurrence):
    given = example(recurrence)
    same(forward(RTRL(recurrence), *given), backward(recurrence, *given))


@pytest.mark.parametrize("cell", [IndRNN(2, 3), MinGRU(2, 3), LRU(2, 3, state_size=4)])
def test_the_diagonal_is_exact_where_no_unit_sees_another(cell):
    given = example(cell)
    same(forward(Diagonal(cell), *given), backward(cell, *given))


def test_the_diagonal_of_an_elman_is_what_a_unit_does_to_itself():
    """Menick et al. 2021, n = 1: of the Jacobian its diagonal, in NumPy, row by row."""
    cell = Elman(2, 3)
    params, xs, targets = example(cell)
    p = jax.tree.map(np.asarray, params)
    total = np.zeros((3, 3))
    for row in range(B):
        h, j = np.zeros(3), np.zeros((3, 3))  # j[a, b]: of w_h[a, b] on h[b]
        for t in range(T):
            if RESET[t, row]:
                h, j = np.zeros(3), np.zeros((3, 3))
            if not MASK[t, row]:
                continue
            after = np.tanh(xs[t, row] @ p.w_x + h @ p.w_h + p.b)
            slope = 1 - after**2
            sent = (after - targets[t, row]) * slope
            # Through all units within the step, through its own before it.
            total += np.outer(h, sent) + (p.w_h @ sent) * j
            j = slope * (np.diag(p.w_h) * j + h[:, None])
            h = after
    _, gradient = forward(Diagonal(cell), params, xs, targets)
    np.testing.assert_allclose(gradient.w_h, total, rtol=1e-9)


class CutLSTM(LSTM):
    """Its recurrent connections carry no gradient."""

    def mix(self, params, carry):
        return super().mix(params, jax.lax.stop_gradient(carry))


class CutGRU(GRU):
    def mix(self, params, carry):
        return super().mix(params, jax.lax.stop_gradient(carry))


@pytest.mark.parametrize(
    "cell, cut", [(LSTM(2, 3), CutLSTM(2, 3)), (GRU(2, 3), CutGRU(2, 3))]
)
def test_e_prop_is_backpropagation_without_the_recurrent_connections(cell, cut):
    given = example(cell)
    ys, gradient = backward(cut, *given)
    same(forward(EProp(cell), *given), (ys, gradient))
    _, exact = backward(cell, *given)
    assert not np.allclose(exact.w_h, gradient.w_h, rtol=0.01)


def test_e_prop_of_a_linear_cell_is_exact():
    cell = MinGRU(2, 3)
    given = example(cell)
    same(forward(EProp(cell), *given), backward(cell, *given))


def test_an_influence_is_as_large_as_it_is_told():
    cell = LSTM(8, 32)
    shapes = jax.eval_shape(cell.init, jax.random.key(0))

    def numbers(online):
        state = jax.eval_shape(lambda p: online.init(p, (5,)), shapes)
        return sum(leaf.size for leaf in jax.tree.leaves(state.influence)) // 5

    assert numbers(RTRL(cell)) == 64 * 5248
    assert numbers(Diagonal(cell)) == numbers(EProp(cell)) == 2 * 5248


def test_bfloat16_params_have_a_wide_influence_and_a_narrow_gradient():
    cell = LSTM(2, 3)
    params = cell.init(jax.random.key(0), jnp.bfloat16)
    for online in (RTRL(cell), Diagonal(cell), EProp(cell)):

        def step(params, x, online=online):
            state = online.init(params)
            after, y, pull = online.step(params, state, x)
            return state, after, pull(y)

        x = jnp.ones(2, jnp.bfloat16)
        state, after, gradient = jax.eval_shape(step, params, x)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        assert after.influence.b.dtype == jnp.float32
        chex.assert_trees_all_equal_shapes_and_dtypes(gradient, params)


@pytest.mark.parametrize("batch", [(), (2, 2)], ids=str)
def test_rows_are_added_up(batch):
    cell = LSTM(2, 3)
    params, xs, _ = example(cell)
    x = jnp.broadcast_to(xs[0, 0], (*batch, 2))
    for online in (RTRL(cell), EProp(cell)):

        @jax.jit
        def gradient(x, online=online):
            state = online.init(params, x.shape[:-1])
            _, y, pull = online.step(params, state, x)
            return pull(y)

        alone = gradient(xs[0, 0])
        want = jax.tree.map(lambda g: g * float(np.prod(batch)), alone)
        chex.assert_trees_all_close(gradient(x), want)


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: RTRL("lstm"), "RTRL takes a recurrence, got 'lstm'"),
        (lambda: EProp(Stack((LSTM(2, 3),))), "EProp takes a cell, got Stack"),
        (lambda: Diagonal(ProjectedLSTM(2, 3, 2)), "leaves .H., all of one size"),
        (lambda: Diagonal(ResetBeforeGRU(2, 3)), r"params.w_. reach several units"),
        (lambda: EProp(LayerNormLSTM(2, 3)), "EProp cannot serve LayerNormLSTM"),
    ],
)
def test_what_cannot_be_served_is_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


def test_what_does_not_fit_a_step_is_refused():
    cell = LSTM(2, 3)
    params, xs, _ = example(cell)
    online = RTRL(cell)
    state = online.init(params, (B,))
    with pytest.raises(ValueError, match=r"mask must be bool\[3\], got bool\[2\]"):
        online.step(params, state, xs[0], mask=jnp.ones(2, bool))
    with pytest.raises(ValueError, match=r"^params must be"):
        online.step(None, state, xs[0])
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., 2\] for LSTM"):
        online.step(params, state, xs[0, :, :1])
    both = RTRL(Bidirectional(cell, cell))
    params = both.recurrence.init(jax.random.key(0), jnp.float64)
    with pytest.raises(ValueError, match="a Bidirectional cannot step"):
        both.step(params, both.init(params, (B,)), xs[0])

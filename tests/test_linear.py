"""Linear recurrences: their papers' equations, and the strategies that use their form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import (
    LRU,
    LSTM,
    MLSTM,
    RGLRU,
    DeltaNet,
    GatedDeltaNet,
    GemmaRGLRU,
    LearnedStart,
    MinGRU,
    MinLSTM,
    Slower,
    Stack,
    explain,
    unroll,
)
from jaxrnn.cells.minrnn import MinGRUParams
from jaxrnn.cells.rglru import clipped_sqrt
from jaxrnn.strategies import Chunkwise

CELLS = {
    "MinGRU": MinGRU(3, 4),
    "MinLSTM": MinLSTM(3, 4),
    "RGLRU": RGLRU(4, 4, heads=2),
    "LRU": LRU(3, 4, state_size=5, r_min=0.5),
    "MLSTM": MLSTM(3, 4, heads=2),
    "DeltaNet": DeltaNet(3, 4, heads=2, householders=2, beta_max=2.0),
    "GatedDeltaNet": GatedDeltaNet(3, 4, heads=2),
}

every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


def parallel(cell):
    return "chunkwise" if cell.chunks else "associative"


def noisy_params(cell, dtype=jnp.float32):
    """Parameters without the zeros and constants of a fresh cell."""
    random = np.random.default_rng(1)
    return jax.tree.map(
        lambda a: a + jnp.asarray(0.3 * random.normal(size=a.shape), a.dtype),
        cell.init(jax.random.key(0), dtype),
    )


def inputs(cell, length, batch=2, dtype=jnp.float32):
    xs = np.random.default_rng(2).normal(size=(length, batch, cell.input_size))
    return jnp.asarray(xs, dtype)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def positive(x):
    return np.where(x >= 0, x + 0.5, sigmoid(x))


def min_gru(cell, p, xs):
    h = np.zeros((xs.shape[1], 4))
    w_z, w_n = np.split(p.w_x, 2, 1)
    b_z, b_n = np.split(p.b, 2)
    for x in xs:
        z = sigmoid(x @ w_z + b_z)
        h = (1 - z) * h + z * positive(x @ w_n + b_n)
        yield h


def min_lstm(cell, p, xs):
    h = np.zeros((xs.shape[1], 4))
    w_i, w_f, w_n = np.split(p.w_x, 3, 1)
    b_i, b_f, b_n = np.split(p.b, 3)
    for x in xs:
        i, f = sigmoid(x @ w_i + b_i), sigmoid(x @ w_f + b_f)
        h = f / (f + i) * h + i / (f + i) * positive(x @ w_n + b_n)
        yield h


def rg_lru(cell, p, xs):
    h = np.zeros((xs.shape[1], 4))
    w_a, w_x = np.zeros((4, 4)), np.zeros((4, 4))
    for head in range(2):
        units = slice(2 * head, 2 * head + 2)
        w_a[units, units], w_x[units, units] = p.w_a[head], p.w_x[head]
    for x in xs:
        r, i = sigmoid(x @ w_a + p.b_a), sigmoid(x @ w_x + p.b_x)
        a = sigmoid(-p.decay) ** (8 * r)  # the paper's a^(c r), c = 8
        h = a * h + np.sqrt(1 - a**2) * (i * x)
        yield h


def lru(cell, p, xs):
    h = np.zeros((xs.shape[1], 5), complex)
    a = np.exp(-np.exp(p.nu_log) + 1j * np.exp(p.theta_log))
    for x in xs:
        h = a * h + np.exp(p.gamma_log) * (x @ (p.b_re + 1j * p.b_im))
        yield (h @ (p.c_re + 1j * p.c_im)).real + x @ p.d


def m_lstm(cell, p, xs):
    """Without a stabiliser: one row, one head at a time, C as values by keys."""
    memory = np.zeros((xs.shape[1], 2, 2, 2))
    normaliser = np.zeros((xs.shape[1], 2, 2))
    for x in xs:
        y = np.zeros((len(x), 4))
        for row, head in np.ndindex(len(x), 2):
            units = slice(2 * head, 2 * head + 2)
            q, k, v, o = (x[row] @ p.w_x + p.b).reshape(4, 4)[:, units]
            k = k / np.sqrt(2)
            i, f = (x[row] @ p.w_gate + p.b_gate).reshape(2, 2)[:, head]
            c, n = memory[row, head], normaliser[row, head]
            c[:] = sigmoid(f) * c + np.exp(i) * np.outer(v, k)
            n[:] = sigmoid(f) * n + np.exp(i) * k
            y[row, units] = sigmoid(o) * (c @ q) / max(abs(n @ q), 1)
        yield y


def delta_rule(cell, p, xs, forget=lambda x, head: 1.0):
    """One row, one head, one sub-step at a time, S as values by keys."""
    n, units = cell.householders, 4
    memory = np.zeros((xs.shape[1], 2, 2, 2))
    for x in xs:
        y = np.zeros((len(x), units))
        for row, head in np.ndindex(len(x), 2):
            part = slice(2 * head, 2 * head + 2)
            net = (x[row] @ p.w_x).reshape(1 + 2 * n, units)[:, part]
            q, *kv = net * sigmoid(net)
            beta = cell.beta_max * sigmoid(x[row] @ p.w_beta + p.b_beta)
            s = forget(x[row], head) * memory[row, head]
            for k, v, b in zip(kv[:n], kv[n:], beta.reshape(n, 2)[:, head], strict=True):
                k = k / np.sqrt(k @ k + 1e-6)
                s = s @ (np.eye(2) - b * np.outer(k, k)) + b * np.outer(v, k)
            memory[row, head] = s
            y[row, part] = s @ q / np.sqrt(q @ q + 1e-6)
        yield y


def gated_delta_rule(cell, p, xs):
    def forget(x, head):
        step = np.log1p(np.exp(x @ p.w_a + p.b_a))
        return np.exp(-np.exp(p.log_rate[head]) * step[head])

    return delta_rule(cell, p, xs, forget)


PAPERS = dict(
    zip(
        CELLS,
        (min_gru, min_lstm, rg_lru, lru, m_lstm, delta_rule, gated_delta_rule),
        strict=True,
    )
)


@pytest.mark.parametrize("name", CELLS)
def test_one_step_and_twenty_are_the_papers_equations(name):
    with jax.enable_x64(True):
        cell = CELLS[name]
        params = noisy_params(cell, jnp.float64)
        xs = inputs(cell, 20, dtype=jnp.float64)
        paper = PAPERS[name](cell, jax.tree.map(np.asarray, params), np.asarray(xs))
        want = np.stack(list(paper))
        _, y = cell.step(params, cell.initial_carry(params, (2,)), xs[0])
        _, ys = unroll(cell, params, xs, strategy="scan")
        _, ys_parallel = unroll(cell, params, xs, strategy=parallel(cell))
        np.testing.assert_allclose(y, want[0], rtol=1e-12)
        np.testing.assert_allclose(ys, want, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(ys_parallel, want, rtol=1e-10, atol=1e-13)


@partial(jax.jit, static_argnames=("cell", "strategy", "reverse", "checkpoint_every"))
def value_and_gradients(cell, params, carry, xs, mask, reset, weights, **options):
    def loss(params, carry, xs):
        outputs = unroll(cell, params, xs, carry, mask=mask, reset=reset, **options)
        terms = jax.tree.map(lambda a: jnp.sum(a * a), outputs[0])
        return jnp.sum(weights * outputs[1]) + sum(jax.tree.leaves(terms)), outputs

    gradients, outputs = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(params, carry, xs)
    return outputs, gradients


def assert_close(got, want, tolerance):
    """Relative to the largest number of each leaf."""
    for (path, a), b in zip(
        jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        off = np.abs(a - b).max() / np.abs(b).max()
        assert off < tolerance, f"{jax.tree_util.keystr(path)} off by {off:.1e}"


def warm_carry(cell, params):
    return unroll(cell, params, 0.5 * inputs(cell, 5), strategy="scan")[0]


@pytest.mark.slow
@every_cell
def test_in_parallel_equals_scan_over_4096_steps_with_masks_and_resets(cell):
    length = 4096
    random = np.random.default_rng(3)
    params = noisy_params(cell)
    xs = inputs(cell, length)
    mask, reset = random.random((length, 2)) < 0.9, random.random((length, 2)) < 1e-3
    weights = jnp.asarray(random.normal(size=(length, 2, 4)), jnp.float32)
    arguments = (cell, params, warm_carry(cell, params), xs, mask, reset, weights)
    want = value_and_gradients(*arguments, strategy="scan")
    got = value_and_gradients(*arguments, strategy=parallel(cell))
    assert_close(got, want, 1e-4)


@pytest.mark.slow
@every_cell
def test_in_parallel_equals_scan_backwards_in_recomputed_pieces(cell):
    # Pieces of one block of the chunkwise strategy and a rest, and a shorter last piece.
    every = Chunkwise().length + 3
    length = every + 4
    random = np.random.default_rng(4)
    params = noisy_params(cell)
    mask, reset = random.random((length, 2)) < 0.7, random.random((length, 2)) < 0.1
    weights = jnp.asarray(random.normal(size=(length, 2, 4)), jnp.float32)
    run = partial(value_and_gradients, cell, params, warm_carry(cell, params))
    data = (inputs(cell, length), mask, reset, weights)
    want = run(*data, strategy="scan", reverse=True)
    got = run(*data, strategy=parallel(cell), reverse=True, checkpoint_every=every)
    assert_close(got, want, 2e-5)


@every_cell
def test_a_nan_passes_neither_a_reset_nor_backwards_in_time(cell):
    params = noisy_params(cell)
    xs = inputs(cell, 12).at[3, 0].set(jnp.nan)
    reset = np.zeros((12, 2), bool)
    reset[[6, 0], [0, 1]] = True
    carry = warm_carry(cell, params)
    carry = jax.tree.map(lambda a: a.at[1].set(jnp.nan), carry)
    for strategy in ("scan", parallel(cell)):
        last, ys = unroll(cell, params, xs, carry, reset=reset, strategy=strategy)
        finite = np.isfinite(ys).all(-1)
        assert finite[:3, 0].all() and not finite[3:6, 0].any()
        assert finite[6:, 0].all() and finite[:, 1].all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(last))


@pytest.mark.slow
@every_cell
@pytest.mark.parametrize("scale", [30.0, -30.0, 0.0])
def test_extreme_inputs_over_4096_steps_leave_values_and_gradients_finite(cell, scale):
    params = noisy_params(cell)
    # Of the shapes of the test above, which is compiled already.
    xs = jnp.full((4096, 2, cell.input_size), scale, jnp.float32)
    flags, weights = np.ones((4096, 2), bool), jnp.ones((4096, 2, 4))
    carry = cell.initial_carry(params, (2,))
    results = value_and_gradients(
        cell, params, carry, xs, flags, ~flags, weights, strategy=parallel(cell)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results))


@every_cell
@pytest.mark.parametrize("in_parallel", [True, False])
def test_bfloat16_keeps_a_slow_decay_within_a_sequence(cell, in_parallel):
    params = jax.tree.map(lambda a: a.astype(jnp.bfloat16), noisy_params(cell))
    xs = inputs(cell, 100, dtype=jnp.bfloat16)
    strategy = parallel(cell) if in_parallel else "scan"
    carry, ys = unroll(cell, params, xs, strategy=strategy)
    assert {a.dtype for a in jax.tree.leaves((carry, ys))} == {jnp.dtype(jnp.bfloat16)}
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), params)
    _, want = unroll(cell, wide, xs.astype(jnp.float32), strategy="scan")
    np.testing.assert_allclose(ys.astype(jnp.float32), want, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("checkpoint_every", [None, 1000])
@pytest.mark.parametrize("wrap", [LearnedStart, partial(Slower, every=1)])
def test_bfloat16_adds_up_what_each_single_step_rounds_away(wrap, checkpoint_every):
    """From 0.125 on h + 0.0004 is h, in a loop that rounds it at every step."""
    cell = wrap(MinGRU(2, 3))
    params = cell.init(jax.random.key(0), jnp.bfloat16)
    bias = jnp.repeat(jnp.array([-7.0, 0.0], jnp.bfloat16), 3)
    weights = MinGRUParams(jnp.zeros((2, 6), jnp.bfloat16), bias)
    carry, ys = unroll(
        cell,
        params._replace(cell=weights),
        jnp.zeros((8000, 2), jnp.bfloat16),
        strategy="scan",
        checkpoint_every=checkpoint_every,
    )
    kept = sigmoid(7.0) ** 8000
    np.testing.assert_allclose(np.asarray(ys[-1], float), 0.5 * (1 - kept), rtol=0.01)
    types = jax.tree.map(jnp.result_type, (carry, ys))
    assert types == jax.tree.map(
        jnp.result_type, (cell.initial_carry(params), jnp.zeros((), jnp.bfloat16))
    )


def test_min_lstm_with_both_gates_closed_divides_no_zero_by_zero():
    cell = MinLSTM(3, 4)
    params = cell.init(jax.random.key(0))
    shut = params._replace(b=params.b.at[:8].set(-200.0))
    open_ = params._replace(b=params.b.at[:8].set(0.0))
    _, ys = unroll(cell, shut, jnp.zeros((5, 3)))
    _, want = unroll(cell, open_, jnp.zeros((5, 3)))
    np.testing.assert_allclose(ys, want, rtol=1e-6)  # log f - log i is 0 in both


def test_rglru_starts_on_the_ring_between_0_9_and_0_999():
    params = RGLRU(4000, 4000, heads=40).init(jax.random.key(0))
    radius = np.exp(-jax.nn.softplus(params.decay))
    assert 0.9 < radius.min() < 0.901 and 0.998 < radius.max() < 0.9991
    # Evenly over the ring's area: the squares of the radii are uniform.
    assert abs(np.mean(radius**2) - (0.9**2 + 0.999**2) / 2) < 0.003


def test_rglru_clips_the_slope_of_its_square_root():
    slopes = jax.vmap(jax.grad(clipped_sqrt))(jnp.array([0.0, 1e-9, 0.25]))
    np.testing.assert_allclose(slopes, [1000.0, 1000.0, 1.0], rtol=1e-5)


def test_gemma_rglru_takes_the_first_input_of_a_sequence_as_it_is():
    cell = GemmaRGLRU(4, 4, heads=2)
    params, xs = noisy_params(cell), inputs(cell, 5)
    reset = jnp.zeros(xs.shape[:2], bool).at[3, 1].set(True)
    mask = jnp.ones(xs.shape[:2], bool).at[0, 0].set(False)
    _, ys = unroll(cell, params, xs, mask=mask, reset=reset)

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def gate(x, w, b):
        blocks = [x[2 * n : 2 * n + 2] @ w[n] for n in range(2)]
        return sigmoid(np.concatenate(blocks) + b)

    w = jax.tree.map(np.asarray, params)
    for row, firsts in enumerate(({1}, {0, 3})):
        h = np.zeros(4)
        for t in range(1 - row, 5):
            x = np.asarray(xs[t, row])
            r, i = gate(x, w.w_a, w.b_a), gate(x, w.w_x, w.b_x)
            a = np.exp(-8 * np.log1p(np.exp(w.decay)) * r)
            h = i * x if t in firsts else a * h + np.sqrt(1 - a**2) * (i * x)
            np.testing.assert_allclose(ys[t, row], h, atol=1e-5)


def test_lru_starts_in_its_ring_with_inputs_scaled_to_it():
    params = LRU(2, 3, 500, r_min=0.8, r_max=0.9, max_phase=1.0).init(jax.random.key(0))
    radius = np.exp(-np.exp(params.nu_log))
    assert 0.8 <= radius.min() < 0.81 and 0.89 < radius.max() <= 0.9
    assert np.exp(params.theta_log).max() <= 1.0
    np.testing.assert_allclose(np.exp(params.gamma_log), np.sqrt(1 - radius**2), rtol=1e-4)


def test_mlstm_output_does_not_depend_on_the_units_of_its_carry():
    cell = CELLS["MLSTM"]
    params = noisy_params(cell)
    carry = warm_carry(cell, params)
    rescaled = carry._replace(
        c=carry.c * jnp.exp(3.0), n=carry.n * jnp.exp(3.0), m=carry.m - 3.0
    )
    for strategy in ("scan", "chunkwise"):
        _, ys = unroll(cell, params, inputs(cell, 8), carry, strategy=strategy)
        _, same = unroll(cell, params, inputs(cell, 8), rescaled, strategy=strategy)
        np.testing.assert_allclose(same, ys, rtol=1e-5, atol=1e-6)


def test_auto_takes_blocks_for_mlstm_and_on_a_cpu_the_loop_for_the_others():
    assert explain(CELLS["MLSTM"]).startswith("MLSTM: chunkwise, because")
    on_cpu, elsewhere = explain(CELLS["LRU"]).splitlines()
    assert on_cpu.startswith("LRU on cpu: scan, because")
    assert "associative would serve it too (on a CPU one loop" in on_cpu
    assert elsewhere.startswith("LRU on gpu and tpu: associative, because")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RGLRU(3, 4), "input_size 3 and hidden_size 4"),
        (lambda: RGLRU(4, 4, heads=3), "divide hidden_size 4, got 3"),
        (lambda: MLSTM(3, 4, heads=0), "heads of 1 or more, got 0"),
        (lambda: DeltaNet(3, 4, heads=3), "DeltaNet needs heads that divide .* 4, got 3"),
        (lambda: DeltaNet(3, 4, householders=0), "householders of 1 or more, got 0"),
        (
            lambda: GatedDeltaNet(3, 4, beta_max=2.5),
            "GatedDeltaNet .* 2 or less, .* got 2.5",
        ),
        (lambda: DeltaNet(3, 4, beta_max=0), "above 0 for beta_max, got 0"),
        (lambda: LRU(3, 4, r_min=0.9, r_max=0.5), "r_min 0.9 and r_max 0.5"),
        (lambda: LRU(3, 4, state_size=0), "state_size of 1 or more, got 0"),
        (lambda: MinGRU(0, 4), "input_size of 1 or more, got 0"),
        (lambda: explain(LSTM(3, 4), strategy="associative"), "a \\* carry \\+ b"),
        (lambda: explain(LSTM(3, 4), strategy="chunkwise"), "no parallel form"),
        (lambda: explain(Stack((MLSTM(3, 4),)), strategy="associative"), "MLSTM"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

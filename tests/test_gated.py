"""Each gated cell against its paper's equations, written again in NumPy, unit by unit."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import (
    LSTM,
    LSTM1997,
    SLSTM,
    Carousel,
    CoupledLSTM,
    IndRNN,
    LayerNormGRU,
    LayerNormLSTM,
    MinimalGRU,
    PeepholeLSTM,
    ProjectedLSTM,
    explain,
    unroll,
)

D, B = 3, 2


def logistic(x):
    return 1 / (1 + np.exp(-x))


def blocks(a, *sizes):
    return np.split(a, np.cumsum(sizes)[:-1], axis=-1)


def norm(a, epsilon=1e-5):
    return (a - np.mean(a)) / np.sqrt(np.var(a) + epsilon)


# One sequence of one example each: the paper's step in its own order, states by name.


def peephole(p, xs, s):
    """Gers & Schmidhuber 2000: gates i and f see the old state, o sees the new one."""
    h, c = s["h"], s["c"]
    n = len(c)
    W, R, b = blocks(p.w_x, *4 * [n]), blocks(p.w_h, *4 * [n]), blocks(p.b, *4 * [n])
    to_i, to_f, to_o = blocks(p.w_c, n, n, n)
    for x in xs:
        net = [x @ W[k] + h @ R[k] + b[k] for k in range(4)]
        y_in, y_forget = logistic(net[0] + to_i * c), logistic(net[1] + to_f * c)
        c = y_forget * c + y_in * np.tanh(net[2])
        y_out = logistic(net[3] + to_o * c)
        h = y_out * np.tanh(c)
        yield h, {"h": h, "c": c}


def coupled(p, xs, s):
    """Greff et al. 2017, CIFG: f = 1 - i."""
    h, c = s["h"], s["c"]
    n = len(c)
    for x in xs:
        i, z, o = blocks(x @ p.w_x + h @ p.w_h + p.b, n, n, n)
        i = logistic(i)
        f = 1 - i
        c = np.tanh(z) * i + c * f
        h = np.tanh(c) * logistic(o)
        yield h, {"h": h, "c": c}


def layer_norm_lstm(p, xs, s):
    """Ba et al. 2016, equations 20 to 22."""
    h, c = s["h"], s["c"]
    n = len(c)
    for x in xs:
        both = p.gain_h * norm(h @ p.w_h) + p.gain_x * norm(x @ p.w_x) + p.b
        i, f, g, o = blocks(both, n, n, n, n)
        c = logistic(f) * c + logistic(i) * np.tanh(g)
        h = logistic(o) * np.tanh(p.gain_c * norm(c) + p.b_c)
        yield h, {"h": h, "c": c}


def layer_norm_gru(p, xs, s):
    """Ba et al. 2016, equations 29 to 31, with 1 - z for their z."""
    h = s["h"]
    n = len(h)
    (W, U), (Wh, Uh) = blocks(p.w_h, 2 * n, n), blocks(p.w_x, 2 * n, n)
    gh, gx, b = (blocks(a, 2 * n, n) for a in (p.gain_h, p.gain_x, p.b))
    for x in xs:
        gates = gh[0] * norm(h @ W) + gx[0] * norm(x @ Wh) + b[0]
        r, z = blocks(gates, n, n)
        from_h = gh[1] * norm(h @ U) + p.b_n
        candidate = np.tanh(gx[1] * norm(x @ Uh) + b[1] + logistic(r) * from_h)
        keep = logistic(z)
        h = keep * h + (1 - keep) * candidate
        yield h, {"h": h}


def projected(p, xs, s):
    """Sak et al. 2014, without peepholes: the projected m_t recurs."""
    h, c = s["h"], s["c"]
    n = len(c)
    for x in xs:
        i, f, g, o = blocks(x @ p.w_x + h @ p.w_h + p.b, n, n, n, n)
        c = logistic(f) * c + logistic(i) * np.tanh(g)
        m = logistic(o) * np.tanh(c)
        h = m @ p.w_p
        yield h, {"h": h, "c": c}


def minimal(p, xs, s):
    """Zhou et al. 2016: the weights act on [h, x] stacked, the gate on h before."""
    h = s["h"]
    n = len(h)
    stacked = np.concatenate([p.w_h, p.w_x])
    W_f, W_h = blocks(stacked, n, n)
    b_f, b_h = blocks(p.b, n, n)
    for x in xs:
        f = logistic(np.concatenate([h, x]) @ W_f + b_f)
        candidate = np.tanh(np.concatenate([f * h, x]) @ W_h + b_h)
        h = (1 - f) * h + f * candidate
        yield h, {"h": h}


def independent(p, xs, s):
    """Li et al. 2018: the recurrence is a Hadamard product."""
    h = s["h"]
    for x in xs:
        h = np.array(
            [max(0, x @ p.w_x[:, n] + p.w_h[n] * h[n] + p.b[n]) for n in range(len(h))]
        )
        yield h, {"h": h}


def original(p, xs, s, block_size):
    """Hochreiter & Schmidhuber 1997, unit by unit; block j owns cells j S to j S + S."""
    y_c, state, gates = s["h"], s["c"], s["gates"]
    count = len(gates) // 2
    bias = np.concatenate([p.b_gates, p.b_cells])

    def net(unit, x, sources):
        return x @ p.w_x[:, unit] + sources @ p.w_h[:, unit] + bias[unit]

    for x in xs:
        sources = np.concatenate([gates, y_c])  # what all units sent a step ago
        y_in = [logistic(net(j, x, sources)) for j in range(count)]
        y_out = [logistic(net(count + j, x, sources)) for j in range(count)]
        y_c, state = np.copy(y_c), np.copy(state)
        for j in range(count):
            for v in range(j * block_size, (j + 1) * block_size):
                g = 4 * logistic(net(2 * count + v, x, sources)) - 2
                state[v] = state[v] + y_in[j] * g
                y_c[v] = y_out[j] * (2 * logistic(state[v]) - 1)
        gates = np.array(y_in + y_out)
        yield y_c, {"h": y_c, "c": state, "gates": gates}


def carousel(p, xs, s):
    """Hochreiter & Schmidhuber 1997, experiment 2a: y = c, and g in [0, 1]."""
    c = s["c"]
    n = len(c)
    for x in xs:
        i, g = blocks(x @ p.w_x, n, n)
        c = c + logistic(i) * logistic(g)
        yield c, {"c": c}


def scalar_memory(p, xs, s, heads, forget):
    """Beck et al. 2024, equations 8 to 14, without the stabiliser."""
    h, c, n = s["h"], s["c"] * np.exp(s["m"]), s["n"] * np.exp(s["m"])
    size = len(h)
    d = size // heads
    R = np.zeros((size, 4 * size))  # one dense matrix, zero between heads
    for k in range(heads):
        for gate in range(4):
            columns = slice(gate * size + k * d, gate * size + (k + 1) * d)
            R[k * d : (k + 1) * d, columns] = p.w_h[k][:, gate * d : (gate + 1) * d]
    for x in xs:
        i, f, z, o = blocks(x @ p.w_x + h @ R + p.b, *4 * [size])
        i, f = np.exp(i), forget(f)
        c = f * c + i * np.tanh(z)
        n = f * n + i
        h = logistic(o) * c / n
        yield h, {"h": h}  # c and n are in other units


PAPERS: list[tuple[Any, Callable]] = [
    (PeepholeLSTM(D, 4), peephole),
    (CoupledLSTM(D, 4), coupled),
    (LayerNormLSTM(D, 4), layer_norm_lstm),
    (LayerNormGRU(D, 4), layer_norm_gru),
    (ProjectedLSTM(D, 4, projection_size=2), projected),
    (ProjectedLSTM(D, 2, projection_size=5), projected),
    (MinimalGRU(D, 4), minimal),
    (IndRNN(D, 4), independent),
    (LSTM1997(D, 4), partial(original, block_size=1)),
    (LSTM1997(D, 6, block_size=3), partial(original, block_size=3)),
    (Carousel(D, 4), carousel),
    (SLSTM(D, 4), partial(scalar_memory, heads=1, forget=logistic)),
    (SLSTM(D, 6, heads=3), partial(scalar_memory, heads=3, forget=logistic)),
    (
        SLSTM(D, 4, heads=2, forget="exponential"),
        partial(scalar_memory, heads=2, forget=np.exp),
    ),
]
CELLS = [cell for cell, _ in PAPERS]
# The table of laws compares the strategies for every cell; these have weights in `gate`.
WITH_GATE_PARAMETERS = [
    PeepholeLSTM(D, 4, output_activation="identity"),
    LayerNormLSTM(D, 4),
    LayerNormGRU(D, 4),
    ProjectedLSTM(D, 2, projection_size=5),
]


@partial(jax.jit, static_argnums=(0, 1))
def example(cell, dtype):
    """Params with noise on what starts constant, a carry that was reached, and xs."""
    keys = iter(jax.random.split(jax.random.key(1), 20))

    def draw(*shape):
        return jax.random.normal(next(keys), shape, dtype)

    params = cell.init(next(keys), dtype)
    params = jax.tree.map(
        lambda leaf: leaf + jnp.asarray(0.2, dtype) * draw(*leaf.shape), params
    )
    carry = cell.initial_carry(params, (B,))
    carry, _ = cell.step(params, carry, draw(B, D))
    return params, carry, draw(20, B, D)


@pytest.mark.parametrize("cell, paper", PAPERS, ids=range(len(PAPERS)))
def test_twenty_steps_are_the_equations_of_the_paper(cell, paper):
    with jax.enable_x64(True):
        params, carry, xs = example(cell, np.float64)
        last, ys = unroll(cell, params, xs, carry)
        p = jax.tree.map(np.asarray, params)
        for row in range(B):
            before = {name: np.asarray(a)[row] for name, a in carry._asdict().items()}
            wanted = list(paper(p, np.asarray(xs)[:, row], before))
            # Each step by itself: an error of the first one is not averaged away.
            for t, (y, _) in enumerate(wanted):
                np.testing.assert_allclose(ys[t, row], y, atol=1e-12, err_msg=f"step {t}")
            for name, value in wanted[-1][1].items():
                np.testing.assert_allclose(getattr(last, name)[row], value, atol=1e-12)


@partial(jax.jit, static_argnums=(0, 1))
def gradients(cell, strategy, params, carry, xs, reset):
    def loss(params, carry, xs):
        last, ys = unroll(cell, params, xs, carry, reset=reset, strategy=strategy)
        weights = jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape)
        return jnp.sum(ys * weights) + sum(jnp.sum(a) for a in jax.tree.leaves(last))

    return jax.grad(loss, argnums=(0, 1, 2))(params, carry, xs)


@pytest.mark.slow
@pytest.mark.parametrize("cell", WITH_GATE_PARAMETERS, ids=str)
def test_fused_gradients_of_gate_parameters_are_those_of_scan(cell):
    with jax.enable_x64(True):
        params, carry, xs = example(cell, np.float64)
        inputs = params, carry, xs, jnp.zeros((20, B), bool).at[7, 0].set(True)
        fused, scan = (gradients(cell, name, *inputs) for name in ("fused", "scan"))
        for (path, a), b in zip(
            jax.tree.leaves_with_path(fused), jax.tree.leaves(scan), strict=True
        ):
            name = jax.tree_util.keystr(path)
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11, err_msg=name)
            assert np.abs(b).max() > 0, f"{name} is tested at a gradient of zero"


def test_a_cell_with_two_products_in_a_row_runs_with_scan():
    assert explain(MinimalGRU(D, 4)).startswith("MinimalGRU: scan")
    with pytest.raises(ValueError, match="does not split"):
        explain(MinimalGRU(D, 4), strategy="fused")


def test_peepholes_start_closed():
    cell, plain = PeepholeLSTM(D, 4), LSTM(D, 4)
    params, lstm_params = cell.init(jax.random.key(0)), plain.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (5, B, D))
    _, ys = unroll(cell, params, xs)
    np.testing.assert_allclose(ys, unroll(plain, lstm_params, xs)[1], atol=1e-6)


def test_the_forget_bias_is_in_the_parameters():
    for cell in (PeepholeLSTM, LayerNormLSTM, SLSTM):
        b = cell(D, 2, forget_bias=3.0).init(jax.random.key(0)).b
        np.testing.assert_array_equal(b, [0, 0, 3, 3, 0, 0, 0, 0])
    b = ProjectedLSTM(D, 2, 1, forget_bias=3.0).init(jax.random.key(0)).b
    np.testing.assert_array_equal(b, [0, 0, 3, 3, 0, 0, 0, 0])
    # The coupled forget gate is sigmoid(-i).
    b = CoupledLSTM(D, 2, forget_bias=3.0).init(jax.random.key(0)).b
    np.testing.assert_array_equal(b, [-3, -3, 0, 0, 0, 0])


def test_each_recurrent_block_starts_orthogonal():
    key, one = jax.random.key(0), np.eye(4)
    for cell, count in ((PeepholeLSTM(D, 4), 4), (CoupledLSTM(D, 4), 3)):
        for block in np.split(cell.init(key).w_h, count, axis=-1):
            np.testing.assert_allclose(block.T @ block, one, atol=1e-6)
    for head in SLSTM(D, 8, heads=2).init(key).w_h:
        for block in np.split(head, 4, axis=-1):
            np.testing.assert_allclose(block.T @ block, one, atol=1e-6)
    for block in np.split(ProjectedLSTM(D, 6, 4).init(key).w_h, 4, axis=-1):
        assert block.shape == (4, 6)
        np.testing.assert_allclose(block @ block.T, one, atol=1e-6)


@pytest.mark.parametrize("forget", ["sigmoid", "exponential"])
def test_slstm_survives_huge_gates(forget):
    cell = SLSTM(D, 4, heads=2, forget=forget)
    params, _, xs = example(cell, np.float32)
    # Gates of one sign in the first row, of the other in the second.
    params = params._replace(w_x=jnp.abs(params.w_x) + 0.1)
    xs = 1e3 * jnp.abs(xs) * jnp.array([[1.0], [-1.0]])
    start = cell.initial_carry(params, (B,))
    last, ys = unroll(cell, params, xs, start)
    slopes = [
        gradients(cell, strategy, params, start, xs, jnp.zeros((20, B), bool))
        for strategy in ("fused", "scan")
    ]
    for leaf in jax.tree.leaves((last, ys, slopes)):
        assert np.isfinite(leaf).all()
    assert np.abs(ys).max() <= 1
    assert (last.n >= 1).all()


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_slstm_from_an_empty_memory_is_its_unstabilised_equations(scale):
    with jax.enable_x64(True):
        cell = SLSTM(D, 4, heads=2)
        params, _, xs = example(cell, np.float64)
        _, ys = unroll(cell, params, scale * xs)
        p, empty = jax.tree.map(np.asarray, params), np.zeros(4)
        for row in range(B):
            inputs = scale * np.asarray(xs)[:, row]
            start = {"h": empty, "c": empty, "n": empty, "m": empty}
            wanted = scalar_memory(p, inputs, start, heads=2, forget=logistic)
            np.testing.assert_allclose(ys[:, row], [y for y, _ in wanted], atol=1e-12)


@pytest.mark.parametrize(
    "cell, outputs, output_weights, published",
    [
        # Every output sees every cell; what more it sees is in the third entry.
        (LSTM1997(7, 4, biases="gates"), 7, 0, 264),  # embedded Reber
        (LSTM1997(7, 6, block_size=2, biases="gates"), 7, 0, 276),
        (LSTM1997(2, 4, block_size=2), 1, 1, 93),  # adding, multiplication: a bias
        (LSTM1997(8, 4, block_size=2), 4, 1, 156),  # temporal order: a bias
        (LSTM1997(8, 6, block_size=2), 8, 1, 308),
        (LSTM1997(1, 3), 1, 0, 102),  # two sequences with noise
        (LSTM1997(54, 2, biases="none"), 2, 0, 364),  # long lags with distractors
        (Carousel(101, 1), 101, 101, 10504),  # long lags without noise: the inputs
    ],
    ids=str,
)
def test_weights_count_what_was_published_in_1997(cell, outputs, output_weights, published):
    params = jax.eval_shape(cell.init, jax.random.key(0))
    in_cell = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert in_cell + outputs * (cell.output_size + output_weights) == published


def test_lstm1997_takes_a_bias_for_each_block():
    cell = LSTM1997(D, 4, block_size=2, input_bias=[-1.0, -3.0], output_bias=-2.0)
    params = cell.init(jax.random.key(0))
    np.testing.assert_array_equal(params.b_gates, [-1, -3, -2, -2])
    np.testing.assert_array_equal(params.b_cells, [0, 0, 0, 0])
    assert hash(cell) == hash(LSTM1997(D, 4, 2, "all", (-1.0, -3.0), -2.0))


@pytest.mark.parametrize("biases", ["gates", "none"])
def test_lstm1997_without_a_bias_has_a_bias_of_zero(biases):
    full = LSTM1997(D, 4, block_size=2, output_bias=(-1.0, -2.0))
    cell = LSTM1997(D, 4, block_size=2, output_bias=(-1.0, -2.0), biases=biases)
    params = cell.init(jax.random.key(0))
    wanted = full.init(jax.random.key(0))
    assert params.b_cells is None
    if biases == "none":
        assert params.b_gates is None
        wanted = wanted._replace(b_gates=jnp.zeros(4))
    xs = jax.random.normal(jax.random.key(1), (5, B, D))
    _, ys = unroll(cell, params, xs)
    np.testing.assert_allclose(ys, unroll(full, wanted, xs)[1], atol=1e-6)


@pytest.mark.parametrize(
    "make, why",
    [
        (lambda: ProjectedLSTM(D, 4, 0), "projection_size of 1 or more, got 0"),
        (lambda: PeepholeLSTM(D, 4, output_activation="cos"), "unknown activation 'cos'"),
        (lambda: IndRNN(D, 4, activation="cos"), "unknown activation 'cos'"),
        (lambda: SLSTM(D, 4, heads=3), "heads that divide hidden_size 4, got 3"),
        (lambda: SLSTM(D, 4, forget="cos"), "got 'cos'"),
        (lambda: LSTM1997(D, 4, block_size=3), "divides hidden_size 4, got 3"),
        (lambda: LSTM1997(D, 4, biases="some"), "got 'some'"),
        (lambda: LSTM1997(D, 4, input_bias=(1.0,)), "each of 4 blocks, got 1"),
        (lambda: LSTM1997(D, 4, input_activation="cos"), "unknown activation 'cos'"),
    ],
)
def test_constants_that_do_not_fit_are_refused(make, why):
    with pytest.raises(ValueError, match=why):
        make()


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_projected_lstm_is_that_of_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(D, 5, proj_size=2)
    w_x, w_h, b_x, b_h, w_p = (
        jnp.asarray(getattr(theirs, name).detach().numpy())
        for name in (
            "weight_ih_l0",
            "weight_hh_l0",
            "bias_ih_l0",
            "bias_hh_l0",
            "weight_hr_l0",
        )
    )
    cell = ProjectedLSTM(D, 5, projection_size=2)
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    params = type(shapes)(w_x=w_x.T, w_h=w_h.T, w_p=w_p.T, b=b_x + b_h)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)

    xs = torch.randn(7, B, D, requires_grad=True)
    h, c = torch.randn(1, B, 2), torch.randn(1, B, 5)
    their_ys, (their_h, their_c) = theirs(xs, (h, c))
    (their_ys**2).sum().backward()

    start = cell.initial_carry(params)._replace(
        h=jnp.asarray(h[0].numpy()), c=jnp.asarray(c[0].numpy())
    )

    def loss(params, xs):
        last, ys = unroll(cell, params, xs, start)
        return jnp.sum(ys**2), (last, ys)

    (slopes, xs_slope), (last, ys) = jax.grad(loss, (0, 1), has_aux=True)(
        params, jnp.asarray(xs.detach().numpy())
    )
    for ours, wanted in (
        (ys, their_ys.detach()),
        (last.h, their_h[0].detach()),
        (last.c, their_c[0].detach()),
        (slopes.w_x.T, theirs.weight_ih_l0.grad),
        (slopes.w_h.T, theirs.weight_hh_l0.grad),
        (slopes.w_p.T, theirs.weight_hr_l0.grad),
        (slopes.b, theirs.bias_ih_l0.grad),
        (xs_slope, xs.grad),
    ):
        np.testing.assert_allclose(ours, wanted.numpy(), rtol=1e-5, atol=1e-5)

"""The plain cells against their papers' equations, transcribed into NumPy on their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import GRU, LSTM, Elman, MogrifierLSTM, ResetBeforeGRU, unroll

D, H = 3, 5


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def elman(p, h, x):
    """Elman 1990: the hidden layer sees the input and its own last activation."""
    h = np.tanh(x @ p.w_x + h @ p.w_h + p.b)
    return (h,), h


def rectified_elman(p, h, x):
    """Le et al. 2015: the same with a rectifier."""
    h = np.maximum(x @ p.w_x + h @ p.w_h + p.b, 0)
    return (h,), h


def lstm(p, h, c, x):
    """Gers et al. 2000 without peepholes: gates i, f, g, o."""

    def net(gate):
        block = slice(gate * H, (gate + 1) * H)
        return x @ p.w_x[:, block] + h @ p.w_h[:, block] + p.b[block]

    i, f, g, o = sigmoid(net(0)), sigmoid(net(1)), np.tanh(net(2)), sigmoid(net(3))
    c = f * c + i * g
    h = o * np.tanh(c)
    return (h, c), h


def mogrifier(p, h, c, x):
    """Melis et al. 2020, equations 1 and 2 for five rounds, then the LSTM."""
    q1, q3, q5 = (np.linalg.multi_dot([*w, np.eye(D)]) for w in p.to_x)
    r2, r4 = (np.linalg.multi_dot([*w, np.eye(H)]) for w in p.to_h)
    x = 2 * sigmoid(h @ q1) * x
    h = 2 * sigmoid(x @ r2) * h
    x = 2 * sigmoid(h @ q3) * x
    h = 2 * sigmoid(x @ r4) * h
    x = 2 * sigmoid(h @ q5) * x
    return lstm(p, h, c, x)


def gru(p, h, x):
    """The GRU with the reset gate after the product, and a bias inside: r, z, n."""
    w_r, w_z, w_n = np.split(p.w_x, 3, axis=1)
    u_r, u_z, u_n = np.split(p.w_h, 3, axis=1)
    b_r, b_z, b_n = np.split(p.b, 3)
    r = sigmoid(x @ w_r + h @ u_r + b_r)
    z = sigmoid(x @ w_z + h @ u_z + b_z)
    n = np.tanh(x @ w_n + b_n + r * (h @ u_n + p.b_n))
    h = (1 - z) * n + z * h
    return (h,), h


def reset_before_gru(p, h, x):
    """Cho et al. 2014, equations 5 to 8: the reset gate before the product."""
    w_r, w_z, w_n = np.split(p.w_x, 3, axis=1)
    u_r, u_z, u_n = np.split(p.w_h, 3, axis=1)
    b_r, b_z, b_n = np.split(p.b, 3)
    r = sigmoid(x @ w_r + h @ u_r + b_r)
    z = sigmoid(x @ w_z + h @ u_z + b_z)
    candidate = np.tanh(x @ w_n + (r * h) @ u_n + b_n)
    h = z * h + (1 - z) * candidate
    return (h,), h


EQUATIONS = [
    (Elman(D, H), elman),
    (Elman(D, H, activation="relu"), rectified_elman),
    (LSTM(D, H), lstm),
    (GRU(D, H), gru),
    (ResetBeforeGRU(D, H), reset_before_gru),
    (MogrifierLSTM(D, H), mogrifier),
    (MogrifierLSTM(D, H, rank=2), mogrifier),
]


@pytest.mark.parametrize("length", [1, 20])
@pytest.mark.parametrize("cell, equations", EQUATIONS, ids=range(len(EQUATIONS)))
def test_a_cell_computes_the_equations_of_its_paper(cell, equations, length):
    random = np.random.default_rng(length)
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    p = jax.tree.map(lambda leaf: random.normal(size=leaf.shape) / 2, shapes)
    start = jax.eval_shape(cell.initial_carry, shapes)
    carry = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), start)
    xs = random.normal(size=(length, D))

    with jax.enable_x64(True):
        last, ys = unroll(
            cell, jax.tree.map(jnp.asarray, p), xs, jax.tree.map(jnp.asarray, carry)
        )

    for x, y in zip(xs, ys, strict=True):
        carry, want = equations(p, *carry, x)
        np.testing.assert_allclose(y, want, rtol=0, atol=1e-10)
    for got, want in zip(last, carry, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)


def test_an_lstm_starts_with_its_forget_bias_in_the_parameters():
    b = LSTM(D, H, forget_bias=2.0).init(jax.random.key(0)).b
    np.testing.assert_array_equal(b, np.repeat([0, 2, 0, 0], H))


@pytest.mark.parametrize("cell", [LSTM(D, H), GRU(D, H), Elman(D, H)], ids=repr)
def test_each_recurrent_gate_block_starts_orthogonal_by_itself(cell):
    w_h = cell.init(jax.random.key(0)).w_h
    blocks = np.split(np.asarray(w_h), w_h.shape[1] // H, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(H), atol=1e-5)
    for other in blocks[1:]:
        assert not np.allclose(blocks[0], other)

"""Activations and bounds as arguments, and what other frameworks' cells are with them."""

import dataclasses
import json
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import (
    GRU,
    LSTM,
    CoupledLSTM,
    CoupledPeepholeLSTM,
    Elman,
    PeepholeLSTM,
    ProjectedLSTM,
    ProjectedPeepholeLSTM,
    ResetBeforeGRU,
    unroll,
)
from jaxrnn.cells.activations import ACTIVATIONS, sigmoid, squash
from jaxrnn.convert import to_equinox, to_haiku, to_linen, to_nnx, to_torch

T, B, D, H, P = 5, 2, 3, 4, 2


def np_sigmoid(a):
    return 1 / (1 + np.exp(-a))


FUNCTIONS = {
    "sigmoid": np_sigmoid,
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "hard_sigmoid": lambda a: np.clip(0.2 * a + 0.5, 0, 1),
    "hard_sigmoid[1/6]": lambda a: np.clip(a + 3, 0, 6) / 6,
    "softsign": lambda a: a / (1 + np.abs(a)),
    "softplus": lambda a: np.log1p(np.exp(a)),
    "elu": lambda a: np.where(a > 0, a, np.expm1(a)),
    "identity": lambda a: a,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_name_is_the_function_that_it_says(name):
    with jax.enable_x64(True):
        a = np.linspace(-8, 8, 101)
        got = ACTIVATIONS[name](jnp.asarray(a))
        np.testing.assert_allclose(got, FUNCTIONS[name](a), atol=1e-12)


@pytest.mark.parametrize("functions", [("sigmoid", "tanh"), ("tanh", "relu"), ("elu",)])
def test_blocks_side_by_side_are_each_put_through_their_own(functions):
    z = jnp.linspace(-3, 3, 6 * len(functions)).reshape(3, -1)
    blocks = np.split(np.asarray(z), len(functions), axis=-1)
    for got, name, block in zip(squash(z, *functions), functions, blocks, strict=True):
        np.testing.assert_allclose(got, FUNCTIONS[name](block), atol=1e-6)


def drawn(cell):
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), shapes)
    return params, random.normal(size=(T, B, cell.input_size))


def outputs(cell, params, xs):
    with jax.enable_x64(True):
        params, xs = jax.tree.map(jnp.asarray, (params, xs))
        _, ys = unroll(cell, params, xs)
        _, reference = unroll(cell, params, xs, strategy="scan")
    np.testing.assert_allclose(ys, reference, atol=1e-12)
    return ys


def onnx_lstm(xs, w, r, b, p, f, g, h, clip=None, input_forget=0):
    """The operator LSTM of ONNX, of one direction, as its specification has it: gates lie
    in the order i, o, f, c, peepholes in the order i, o, f; `clip` holds what enters an
    activation, `input_forget` couples the input and forget gates."""

    def act(function, a):
        return FUNCTIONS[function](a if clip is None else np.clip(a, -clip, clip))

    h_t = c_t = np.zeros((B, H))
    ys = []
    for x in xs:
        z_i, z_o, z_f, z_c = np.split(x @ w.T + h_t @ r.T + b, 4, axis=-1)
        p_i, p_o, p_f = np.split(p, 3)
        i_t = act(f, z_i + p_i * c_t)
        f_t = 1 - i_t if input_forget else act(f, z_f + p_f * c_t)
        c_t = f_t * c_t + i_t * act(g, z_c)
        o_t = act(f, z_o + p_o * c_t)
        h_t = o_t * act(h, c_t)
        ys.append(h_t)
    return np.stack(ys)


ONNX = [
    ("sigmoid", "tanh", "tanh", None),
    ("hard_sigmoid", "softsign", "relu", None),
    ("sigmoid", "tanh", "tanh", 0.7),
]


@pytest.mark.parametrize("peepholes", [False, True], ids=["plain", "P"])
@pytest.mark.parametrize("f, g, h, clip", ONNX, ids=str)
def test_an_lstm_of_onnx_is_one_of_ours(f, g, h, clip, peepholes):
    options = {"gate_activation": f, "candidate_activation": g, "output_activation": h}
    kind = PeepholeLSTM if peepholes else LSTM
    cell = kind(D, H, **options, activation_clip=clip)
    params, xs = drawn(cell)

    def to_onnx(a):
        i, f, g, o = np.split(a, 4, axis=-1)
        return np.concatenate([i, o, f, g], axis=-1)

    w_i, w_f, w_o = np.split(params.w_c, 3) if peepholes else np.zeros((3, H))
    p = np.concatenate([w_i, w_o, w_f])
    w, r, b = to_onnx(params.w_x).T, to_onnx(params.w_h).T, to_onnx(params.b)
    want = onnx_lstm(xs, w, r, b, p, f, g, h, clip)
    np.testing.assert_allclose(outputs(cell, params, xs), want, atol=1e-12)


@pytest.mark.parametrize("peepholes", [False, True], ids=["plain", "P"])
@pytest.mark.parametrize("f, g, h, clip", ONNX, ids=str)
def test_an_lstm_of_onnx_with_coupled_gates_is_one_of_ours(f, g, h, clip, peepholes):
    options = {"gate_activation": f, "candidate_activation": g, "output_activation": h}
    kind = CoupledPeepholeLSTM if peepholes else CoupledLSTM
    cell = kind(D, H, **options, activation_clip=clip)
    params, xs = drawn(cell)

    def to_onnx(a):
        i, g, o = np.split(a, 3, axis=-1)
        return np.concatenate([i, o, np.full_like(i, np.nan), g], axis=-1)

    w_i, w_o = np.split(params.w_c, 2) if peepholes else np.zeros((2, H))
    p = np.concatenate([w_i, w_o, np.full(H, np.nan)])
    w, r, b = to_onnx(params.w_x).T, to_onnx(params.w_h).T, to_onnx(params.b)
    want = onnx_lstm(xs, w, r, b, p, f, g, h, clip, input_forget=1)
    np.testing.assert_allclose(outputs(cell, params, xs), want, atol=1e-12)


@pytest.mark.parametrize("kind", [GRU, ResetBeforeGRU])
@pytest.mark.parametrize("f, g", [("hard_sigmoid", "relu"), ("sigmoid", "softsign")])
def test_a_gru_of_onnx_is_one_of_ours(kind, f, g, clip=0.8):
    """Its specification has z, r, h; `linear_before_reset` is our `GRU`."""
    cell = kind(D, H, gate_activation=f, candidate_activation=g, activation_clip=clip)
    params, xs = drawn(cell)
    w_r, w_z, w_h = np.split(params.w_x, 3, axis=-1)
    r_r, r_z, r_h = np.split(params.w_h, 3, axis=-1)
    b_r, b_z, b_h = np.split(params.b, 3)

    def act(function, a):
        return FUNCTIONS[function](np.clip(a, -clip, clip))

    h, ys = np.zeros((B, H)), []
    for x in xs:
        z = act(f, x @ w_z + h @ r_z + b_z)
        r = act(f, x @ w_r + h @ r_r + b_r)
        if kind is GRU:
            new = act(g, x @ w_h + r * (h @ r_h + params.b_n) + b_h)
        else:
            new = act(g, x @ w_h + (r * h) @ r_h + b_h)
        h = (1 - z) * new + z * h
        ys.append(h)
    np.testing.assert_allclose(outputs(cell, params, xs), np.stack(ys), atol=1e-12)


def tensorflow_lstm(p, xs, peepholes, act, cell_clip, proj_clip):
    """`LSTMCell` of TensorFlow 1 with `num_proj`: the cell is clipped before the output
    gate and its activation see it, the projection last."""
    w_i, w_f, w_o = np.split(p.w_c, 3) if peepholes else np.zeros((3, H))
    m, c, ys = np.zeros((B, P)), np.zeros((B, H)), []
    for x in xs:
        i, f, j, o = np.split(x @ p.w_x + m @ p.w_h + p.b, 4, axis=-1)
        c = np_sigmoid(f + w_f * c) * c + np_sigmoid(i + w_i * c) * act(j)
        c = np.clip(c, -cell_clip, cell_clip)
        m = (np_sigmoid(o + w_o * c) * act(c)) @ p.w_p
        m = np.clip(m, -proj_clip, proj_clip)
        ys.append(m)
    return np.stack(ys)


@pytest.mark.parametrize("kind", [ProjectedLSTM, ProjectedPeepholeLSTM])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_an_lstm_of_tensorflow_is_one_of_ours(kind, activation):
    cell = kind(
        D,
        H,
        P,
        candidate_activation=activation,
        output_activation=activation,
        cell_clip=0.6,
        projection_clip=0.2,
    )
    params, xs = drawn(cell)
    peepholes = kind is ProjectedPeepholeLSTM
    act = FUNCTIONS[activation]
    want = tensorflow_lstm(params, xs, peepholes, act, 0.6, 0.2)
    assert np.isclose(abs(want), 0.2).any() and not np.isclose(abs(want), 0.2).all()
    np.testing.assert_allclose(outputs(cell, params, xs), want, atol=1e-12)


def test_wide_bounds_change_nothing_and_narrow_ones_bind():
    cell = LSTM(D, H)
    params, xs = drawn(cell)
    want = outputs(cell, params, xs)
    wide = LSTM(D, H, cell_clip=1e3, activation_clip=1e3)
    np.testing.assert_allclose(outputs(wide, params, xs), want, atol=1e-12)
    narrow = LSTM(D, H, cell_clip=0.1)
    assert np.max(np.abs(outputs(narrow, params, xs))) <= np.tanh(0.1)


def test_the_gates_that_are_shown_are_those_of_the_step():
    cell = LSTM(1, 1, gate_activation="hard_sigmoid", activation_clip=1.0)
    params = cell.init(jax.random.key(0))
    carry = cell.initial_carry(params)
    shown = cell.gates(params, carry, jnp.array([9.0, -9, 0, 0.5]), jnp.zeros(4))
    assert [float(gate[0]) for gate in shown.values()] == pytest.approx([0.7, 0.3, 0.6])
    coupled = CoupledPeepholeLSTM(1, 1)
    params = coupled.init(jax.random.key(0))
    shown = coupled.gates(params, carry, jnp.array([2.0, 0, 0]), jnp.zeros(3))
    assert float(shown["forget"][0]) == pytest.approx(1 - float(sigmoid(jnp.array(2.0))))


CELLS = [
    LSTM(D, H, gate_activation="hard_sigmoid", cell_clip=3),
    GRU(D, H, candidate_activation="relu", activation_clip=np.float32(2)),
    PeepholeLSTM(D, H, 0.5, "identity"),
    ProjectedPeepholeLSTM(D, H, P, projection_clip=2),
    CoupledPeepholeLSTM(D, H, output_activation="softsign"),
]


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_a_cell_prints_as_it_is_made_hashes_and_is_saved_as_json(cell):
    again = type(cell)(**json.loads(json.dumps(dataclasses.asdict(cell))))
    assert again == cell == eval(repr(cell)) and hash(again) == hash(cell)
    plain = dataclasses.replace(cell, activation_clip=1.5)
    assert plain != cell and "activation_clip=1.5" in repr(plain)


def test_a_cell_prints_no_option_that_is_the_default():
    assert repr(LSTM(3, 4)) == "LSTM(input_size=3, hidden_size=4, forget_bias=1.0)"
    assert repr(GRU(3, 4)) == "GRU(input_size=3, hidden_size=4)"


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"gate_activation": "hard"}, "unknown activation 'hard'; known: tanh, relu"),
        ({"candidate_activation": jnp.tanh}, "unknown activation <"),
        ({"output_activation": None}, "unknown activation None"),
        ({"cell_clip": 0}, "finite number above 0 for cell_clip, got 0"),
        ({"activation_clip": -1.0}, "above 0 for activation_clip, got -1.0"),
        ({"cell_clip": "3"}, "for cell_clip, got '3'"),
    ],
)
def test_options_that_are_none_are_refused(options, reason):
    for kind in (LSTM, CoupledLSTM, PeepholeLSTM, CoupledPeepholeLSTM):
        with pytest.raises(ValueError, match=reason):
            kind(D, H, **options)


WRITE = [to_torch, to_linen, to_nnx, to_haiku, to_equinox]


@pytest.mark.parametrize("write, kind", [*product(WRITE, [LSTM, GRU, ResetBeforeGRU])])
def test_no_framework_is_given_a_function_that_it_would_not_compute(write, kind):
    for options in ({"gate_activation": "hard_sigmoid"}, {"activation_clip": 1.0}):
        cell = kind(D, H, **options)
        with pytest.raises(ValueError, match="cannot hold .*"):
            write(cell, cell.init(jax.random.key(0)))


def test_an_elman_is_still_given_over_with_its_activation():
    cell = Elman(D, H, "relu")
    assert "weight_ih_l0" in to_torch(cell, cell.init(jax.random.key(0)))

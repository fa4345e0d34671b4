"""Recurrences from and to ONNX: what onnxruntime computes, exact round trips."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    CoupledLSTM,
    CoupledPeepholeLSTM,
    Elman,
    MinimalGRU,
    PeepholeLSTM,
    ResetBeforeGRU,
    Residual,
    Reversed,
    Stack,
    length_mask,
    unroll,
)
from jaxrnn.convert import from_onnx, to_onnx

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

T, B, D, H = 6, 3, 3, 4
CELLS = [
    LSTM(D, H),
    PeepholeLSTM(D, H),
    CoupledLSTM(D, H),
    GRU(D, H),
    ResetBeforeGRU(D, H),
    Elman(D, H),
    Elman(D, H, activation="relu"),
    Elman(D, H, activation="hard_sigmoid"),
]
BOUND = {"gate_activation": "hard_sigmoid", "activation_clip": 0.75}
WITH_OPTIONS = [
    LSTM(D, H, **BOUND, candidate_activation="softsign", output_activation="relu"),
    CoupledLSTM(D, H, **BOUND),
    PeepholeLSTM(D, H, output_activation="elu", gate_activation="hard_sigmoid"),
    CoupledPeepholeLSTM(D, H, candidate_activation="relu"),
    GRU(D, H, **BOUND, candidate_activation="softplus"),
    ResetBeforeGRU(D, H, **BOUND),
]
RECURRENCES = [
    *CELLS,
    *WITH_OPTIONS,
    Reversed(LSTM(D, H)),
    Reversed(GRU(D, H)),
    Bidirectional(PeepholeLSTM(D, H), PeepholeLSTM(D, H)),
    Bidirectional(CoupledLSTM(D, H), CoupledLSTM(D, H)),
    Bidirectional(ResetBeforeGRU(D, H), ResetBeforeGRU(D, H)),
    Bidirectional(Elman(D, H), Elman(D, H, activation="relu")),
    Stack((Bidirectional(GRU(D, 2), GRU(D, 2)), PeepholeLSTM(4, H), Reversed(LSTM(H, 5)))),
]


def some_params(recurrence):
    shapes = jax.eval_shape(recurrence.init, jax.random.key(0))
    leaves, form = jax.tree.flatten(shapes)
    draw = np.random.default_rng(0)
    return form.unflatten([draw.normal(size=x.shape).astype("float32") for x in leaves])


def some_xs():
    return np.random.default_rng(1).normal(size=(T, B, D)).astype("float32")


def run(model, **given):
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for value in session.get_inputs():
        sizes = [B if size == "B" else size for size in value.shape]
        if value.name not in given:
            given[value.name] = np.full(sizes, 0.3, "float32")
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=repr)
def test_both_compute_the_same_and_params_come_back_bit_for_bit(recurrence):
    params, xs = some_params(recurrence), some_xs()
    model = to_onnx(recurrence, params)
    again, params_again = from_onnx(model)
    assert again == recurrence
    jax.tree.map(np.testing.assert_array_equal, params_again, params)

    carry = recurrence.initial_carry(params, (B,))
    carry = jax.tree.map(lambda a: jnp.full_like(a, 0.3), carry)
    carry, ys = unroll(recurrence, params, xs, carry)
    got = run(model, xs=xs)
    assert_close(got.pop("ys"), ys)
    for ours, theirs in zip(jax.tree.leaves(carry), carries(got), strict=True):
        assert_close(theirs, ours)


def carries(got):
    """By layer, direction, h and c."""
    leaves = []
    for layer in sorted({name.partition(".")[0] for name in got}):
        names = (f"{layer}.{part}.after" for part in "hc")
        parts = [
            got[name].reshape(-1, B, got[name].shape[-1]) for name in names if name in got
        ]
        leaves += [part[n] for n in range(len(parts[0])) for part in parts]
    return leaves


@pytest.mark.parametrize("cell", [LSTM(D, H), GRU(D, H), Elman(D, H)], ids=repr)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lengths_are_a_mask(cell, direction):
    recurrence = {
        "forward": cell,
        "reverse": Reversed(cell),
        "bidirectional": Bidirectional(cell, cell),
    }[direction]
    params, xs, lengths = some_params(recurrence), some_xs(), np.array([6, 2, 4], "int32")
    model = to_onnx(recurrence, params)
    (node,) = (n for n in model.graph.node if n.op_type in ("LSTM", "GRU", "RNN"))
    node.input[4] = "lengths"
    value = helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["B"])
    model.graph.input.append(value)
    carry = jax.tree.map(
        lambda a: jnp.full_like(a, 0.3), recurrence.initial_carry(params, (B,))
    )
    recurrence, params = from_onnx(model)
    _, ys = unroll(recurrence, params, xs, carry, mask=length_mask(lengths, T))
    assert_close(run(model, xs=xs, lengths=lengths)["ys"], ys)


def lstm_node(*inputs, op="LSTM", **attributes):
    return helper.make_node(op, ["X", "W", "R", *inputs], ["Y"], **attributes)


def weights(gates=4, directions=1, **more):
    draw = np.random.default_rng(0)
    shapes = {"W": (directions, gates * H, D), "R": (directions, gates * H, H)}
    return {k: draw.normal(size=s).astype("float32") for k, s in (shapes | more).items()}


def test_one_node_and_its_constants_are_enough():
    given = weights()
    cell, params = from_onnx(lstm_node(hidden_size=H), given)
    assert cell == LSTM(D, H) and not np.any(params.b)
    i, _, f, _ = np.split(given["W"][0].T, 4, axis=-1)
    np.testing.assert_array_equal(params.w_x[:, : 2 * H], np.concatenate([i, f], -1))
    # Batches first or time first, the weights lie the same.
    again = from_onnx(lstm_node(hidden_size=H, layout=1), given)
    jax.tree.map(np.testing.assert_array_equal, again[1], params)
    usual = ["sigmoid", "Tanh", "TANH"]
    assert from_onnx(lstm_node(activations=usual, clip=0.0), given)[0] == cell


def test_a_file_is_read_and_one_of_its_nodes_chosen_by_name(tmp_path):
    stack = Stack((LSTM(D, H), GRU(H, 2)))
    params = some_params(stack)
    onnx.save(to_onnx(stack, params), tmp_path / "model.onnx")
    assert from_onnx(tmp_path / "model.onnx")[0] == stack
    cell, own = from_onnx(str(tmp_path / "model.onnx"), name="1")
    assert cell == GRU(H, 2)
    jax.tree.map(np.testing.assert_array_equal, own, params[1])
    with pytest.raises(ValueError, match=r"no 'other'; it has \['0', '1'\]"):
        from_onnx(tmp_path / "model.onnx", name="other")
    (tmp_path / "model.onnx").write_bytes(b"\xff not onnx")
    with pytest.raises(ValueError, match="model.onnx is no file of ONNX"):
        from_onnx(tmp_path / "model.onnx")


@pytest.mark.filterwarnings("ignore")  # the exporter warns of itself
@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_what_pytorch_exports_comes_in(kind, folded):
    torch = pytest.importorskip("torch")
    module = getattr(torch.nn, kind)(D, H, num_layers=2, bidirectional=True).eval()
    file, xs = io.BytesIO(), some_xs()
    torch.onnx.export(
        module, torch.tensor(xs), file, dynamo=False, do_constant_folding=folded
    )
    recurrence, params = from_onnx(onnx.load_from_string(file.getvalue()))
    want = module(torch.tensor(xs))[0].detach().numpy()
    assert_close(unroll(recurrence, params, xs)[1], want)


def test_nodes_that_do_not_follow_one_another_are_not_stacked():
    model = to_onnx(
        Stack((LSTM(D, D), GRU(D, 2))), some_params(Stack((LSTM(D, D), GRU(D, 2))))
    )
    next(node for node in model.graph.node if node.name == "1").input[0] = "xs"
    with pytest.raises(ValueError, match="do not follow one another"):
        from_onnx(model)


@pytest.mark.parametrize(
    "node, given, reason",
    [
        (
            lstm_node("", "", "", "", "P", clip=3.0),
            weights(P=(1, 3 * H)),
            "LSTM clips at 3.0",
        ),
        (lstm_node(activations=["Affine", "Tanh", "Tanh"]), weights(), "the activations"),
        (lstm_node(activation_alpha=[0.1]), weights(), "has activation_alpha"),
        (
            lstm_node(op="RNN", activations=["ThresholdedRelu"]),
            weights(1),
            r"\['ThresholdedRelu'\], our cells 1 of Tanh",
        ),
        (lstm_node(op="GRU"), weights(4), r"must be \[1, 12, 3\]"),
        (lstm_node(hidden_size=9), weights(), "has hidden_size 9, and R has 4 units"),
        (lstm_node(direction="bidirectional"), weights(), r"W must be \[2, 16, 3\]"),
        (lstm_node(direction="both"), weights(), "unknown direction, 'both'"),
        (lstm_node("B"), weights(), "has no B among the constants"),
        (lstm_node(), {}, "has no W among the constants"),
        (
            lstm_node("", "", "h"),
            weights(h=(1, B, H)),
            "begins with an initial_h of its own",
        ),
        (helper.make_node("Relu", ["X"], ["Y"]), {}, "takes LSTM, GRU and RNN nodes, got"),
        (onnx.ModelProto(), None, "the graph has no LSTM, GRU or RNN"),
        (3, None, "takes a file, a ModelProto or a NodeProto, got int"),
    ],
)
def test_what_our_cells_do_not_compute_is_refused_with_the_reason(node, given, reason):
    with pytest.raises(ValueError, match=reason):
        from_onnx(node, given)


@pytest.mark.parametrize(
    "recurrence, reason",
    [
        (MinimalGRU(D, H), "its GRU has two gates"),
        (Residual(GRU(D, D)), "what converts is LSTM, "),
        (Elman(D, H, activation="identity"), "it has tanh, relu"),
        (PeepholeLSTM(D, H, output_activation="identity"), "it has tanh, relu"),
        (Bidirectional(GRU(D, H), GRU(D, H), merge="sum"), "concatenates the directions"),
        (Bidirectional(GRU(D, H), LSTM(D, H)), "both directions of a node are the same"),
        (Reversed(Reversed(GRU(D, H))), "no direction within a direction"),
    ],
)
def test_what_onnx_has_no_node_for_is_refused_with_the_reason(recurrence, reason):
    with pytest.raises(ValueError, match=reason):
        to_onnx(recurrence, some_params(recurrence))

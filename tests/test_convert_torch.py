"""Weights from and to PyTorch: the same function and gradients, exact round trips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert_parity import (
    B,
    T,
    assert_close,
    assert_equal,
    converted,
    random_params,
    run,
)

from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    Elman,
    ProjectedLSTM,
    ResetBeforeGRU,
    Residual,
    Stack,
    unroll,
)
from jaxrnn.convert import from_torch, to_torch

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings(
    "ignore:LSTM with projections is not supported with oneDNN:UserWarning"
)

MODULES = {
    "two_layer_bidirectional_lstm": lambda d, h: torch.nn.LSTM(
        d, h, num_layers=2, bidirectional=True
    ),
    "two_layer_projected_lstm": lambda d, h: torch.nn.LSTM(
        d, h + 1, num_layers=2, proj_size=h
    ),
    "lstm": lambda d, h: torch.nn.LSTM(d, h),
    "bidirectional_gru": lambda d, h: torch.nn.GRU(d, h, bidirectional=True),
    "two_layer_tanh_rnn": lambda d, h: torch.nn.RNN(d, h, num_layers=2),
    "relu_rnn": lambda d, h: torch.nn.RNN(d, h, nonlinearity="relu"),
}

RECURRENCES = [
    LSTM(3, 4),
    ProjectedLSTM(3, 5, 2),
    GRU(3, 4),
    Elman(3, 4),
    Elman(3, 4, activation="relu"),
    Bidirectional(ProjectedLSTM(3, 5, 2), ProjectedLSTM(3, 5, 2)),
    Stack((Bidirectional(GRU(3, 2), GRU(3, 2)), Bidirectional(GRU(4, 2), GRU(4, 2)))),
]


def arrays(module):
    return {key: w.detach().numpy() for key, w in module.state_dict().items()}


def build(name, precision):
    torch.manual_seed(precision.seed)
    module = MODULES[name](*precision.sizes)
    return module.double() if precision.dtype == np.float64 else module


def torch_run(module, xs):
    """What `run` gives, from PyTorch, whose carry is h or (h, c), layer by layer."""
    xs = torch.tensor(xs, requires_grad=True)
    ys, carry = module(xs)
    cotangent = np.cos(np.arange(ys.numel(), dtype=np.asarray(xs.detach()).dtype))
    (ys * torch.from_numpy(cotangent.reshape(ys.shape))).sum().backward()
    gradients = {key: w.grad.numpy() for key, w in module.named_parameters()}
    carry = [part.detach().numpy() for part in carry] if type(carry) is tuple else carry
    return carry, ys.detach().numpy(), (gradients, xs.grad.numpy())


@pytest.mark.parametrize("name", MODULES)
def test_a_module_and_its_recurrence_are_the_same_function(name, precision):
    module = build(name, precision)
    xs = precision.draw(T, B, precision.sizes[0])

    def convert(weights):
        activation = getattr(module, "nonlinearity", None)
        return from_torch(weights, activation=activation)

    carry, ys, gradients = run(converted(convert), arrays(module), xs)
    torch_carry, torch_ys, torch_gradients = torch_run(module, xs)
    assert_close(ys, torch_ys, precision.tolerance)
    assert_close(gradients, torch_gradients, precision.tolerance)
    if isinstance(module, torch.nn.LSTM):
        leaves = jax.tree.leaves(carry)
        h, c = jnp.stack(leaves[::2]), jnp.stack(leaves[1::2])
        assert_close([h, c], torch_carry, precision.tolerance)


@pytest.mark.parametrize("name", MODULES)
def test_a_live_module_and_its_state_dict_convert_alike(name, precision):
    module = build(name, precision)
    recurrence, params = from_torch(module)
    activation = getattr(module, "nonlinearity", None)
    again, params_again = from_torch(module.state_dict(), activation=activation)
    assert again == recurrence
    assert_equal(params_again, params)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_filled_by_to_torch_gives_what_it_gave(name, precision):
    module = build(name, precision)
    state = to_torch(*from_torch(module))
    fresh = MODULES[name](*precision.sizes)
    fresh.to(next(module.parameters()).dtype)
    assert list(state) == list(fresh.state_dict())
    fresh.load_state_dict({key: torch.from_numpy(w) for key, w in state.items()})
    xs = torch.tensor(precision.draw(T, B, precision.sizes[0]))
    assert_close(
        fresh(xs)[0].detach().numpy(), module(xs)[0].detach().numpy(), precision.tolerance
    )


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=str)
def test_params_come_back_bit_for_bit(recurrence, precision):
    params = random_params(recurrence, precision)
    activation = getattr(recurrence, "activation", None)
    again, params_again = from_torch(to_torch(recurrence, params), activation=activation)
    assert again == recurrence
    assert_equal(params_again, params)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_module_without_bias_has_biases_of_zeros(kind):
    module = getattr(torch.nn, kind)(3, 4, bias=False)
    recurrence, params = from_torch(module)
    state = to_torch(recurrence, params)
    for key, w in module.state_dict().items():
        np.testing.assert_array_equal(state.pop(key), w)
    assert list(state) == ["bias_ih_l0", "bias_hh_l0"]
    assert not any(np.any(b) for b in state.values())


def test_two_biases_become_one():
    module = torch.nn.LSTM(3, 4)
    _, params = from_torch(module)
    both = module.bias_ih_l0 + module.bias_hh_l0
    np.testing.assert_array_equal(params.b, both.detach().numpy())


def test_the_inner_bias_of_the_gru_is_kept_apart():
    module = torch.nn.GRU(3, 4)
    _, params = from_torch(module)
    b_x, b_h = (b.detach().numpy() for b in (module.bias_ih_l0, module.bias_hh_l0))
    np.testing.assert_array_equal(params.b_n, b_h[8:])
    np.testing.assert_array_equal(params.b[:8], b_x[:8] + b_h[:8])
    np.testing.assert_array_equal(params.b[8:], b_x[8:])


def test_a_safetensors_file_is_read(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    module = torch.nn.LSTM(3, 4, num_layers=2)
    path = tmp_path / "weights.safetensors"
    save_file({"net.lstm." + key: w for key, w in module.state_dict().items()}, path)
    recurrence, params = from_torch(str(path), prefix="net.lstm.")
    assert recurrence == Stack((LSTM(3, 4), LSTM(4, 4)))
    assert_equal(params, from_torch(module)[1])


def test_a_prefix_picks_one_module_out_of_a_model():
    model = torch.nn.ModuleDict({"a": torch.nn.GRU(3, 4), "b": torch.nn.LSTM(3, 4)})
    recurrence, params = from_torch(model.state_dict(), prefix="a.")
    assert recurrence == GRU(3, 4)
    assert_equal(params, from_torch(model["a"])[1])


def test_bfloat16_weights_stay_bfloat16():
    module = torch.nn.LSTM(3, 4).to(torch.bfloat16)
    _, params = from_torch(module)
    assert params.w_x.dtype == jnp.bfloat16
    expected = module.weight_ih_l0.detach().float().numpy().T
    np.testing.assert_array_equal(params.w_x.astype(jnp.float32), expected)


def test_bfloat16_weights_go_back_by_way_of_float32():
    module = torch.nn.GRU(3, 4).to(torch.bfloat16)
    state = to_torch(*from_torch(module))
    fresh = torch.nn.GRU(3, 4).to(torch.bfloat16)
    fresh.load_state_dict(
        {key: torch.from_numpy(w.astype("float32")) for key, w in state.items()}
    )
    assert_equal(from_torch(fresh)[1], from_torch(module)[1])


def test_dropout_and_batch_first_do_not_matter():
    torch.manual_seed(0)
    module = torch.nn.GRU(3, 4, num_layers=2, dropout=0.5, batch_first=True).eval()
    recurrence, params = from_torch(module)
    xs = np.random.default_rng(0).normal(size=(T, B, 3)).astype(np.float32)
    _, ys = unroll(recurrence, params, xs)
    expected = module(torch.tensor(xs.swapaxes(0, 1)))[0].detach().numpy()
    np.testing.assert_allclose(ys, expected.swapaxes(0, 1), atol=1e-5)


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "pytorch_model.bin"])
def test_a_pickled_file_is_never_read(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"never opened")
    with pytest.raises(ValueError, match=r"only \.safetensors .* can run any code"):
        from_torch(path)


def test_an_rnn_from_bare_weights_needs_its_activation():
    state = torch.nn.RNN(3, 4).state_dict()
    with pytest.raises(ValueError, match='give activation="tanh"'):
        from_torch(state)


def test_weights_of_something_else_are_refused():
    with pytest.raises(ValueError, match="no weight_ih_l0 among the keys"):
        from_torch(torch.nn.Linear(3, 4))
    state = torch.nn.LSTM(3, 4).state_dict() | {"decoder.weight": torch.ones(2, 4)}
    with pytest.raises(ValueError, match=r"keys that no recurrent layer has.*decoder"):
        from_torch(state)
    shapes = {"weight_ih_l0": np.ones((8, 3), "f"), "weight_hh_l0": np.ones((8, 4), "f")}
    with pytest.raises(ValueError, match="no LSTM, GRU or RNN"):
        from_torch(shapes)


@pytest.mark.parametrize(
    "missing", ["weight_hh_l0", "weight_hh_l1", "weight_ih_l1_reverse"]
)
def test_a_missing_matrix_is_named(missing):
    state = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True).state_dict()
    del state[missing]
    with pytest.raises(ValueError, match=rf"no {missing} among the keys \['bias"):
        from_torch(state)


def test_float64_weights_are_not_truncated_in_silence():
    with jax.enable_x64(False), pytest.raises(ValueError, match="64-bit mode is off"):
        from_torch(torch.nn.LSTM(3, 4).double())


@pytest.mark.parametrize(
    "recurrence, reason",
    [
        (ResetBeforeGRU(3, 4), "resets after the product"),
        (Elman(3, 4, activation="sigmoid"), "has tanh and relu"),
        (Residual(LSTM(4, 4)), "what converts is LSTM, ProjectedLSTM, GRU, Elman"),
        (Stack((LSTM(3, 4), GRU(4, 4))), "the same cell"),
        (Stack((LSTM(3, 4), LSTM(4, 5))), "the same cell"),
        (Stack((Bidirectional(GRU(3, 2), GRU(3, 2)), GRU(4, 2))), "directions"),
        (Bidirectional(LSTM(3, 4), LSTM(3, 4), merge="sum"), "always concatenates"),
    ],
    ids=str,
)
def test_what_pytorch_cannot_hold_is_refused(recurrence, reason):
    params = recurrence.init(jax.random.key(0))
    with pytest.raises(ValueError, match=reason):
        to_torch(recurrence, params)

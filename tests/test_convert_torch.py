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


CELLS = {
    "LSTMCell": lambda **o: torch.nn.LSTMCell(3, 4, **o),
    "GRUCell": lambda **o: torch.nn.GRUCell(3, 4, **o),
    "RNNCell": lambda **o: torch.nn.RNNCell(3, 4, **o),
    "relu": lambda **o: torch.nn.RNNCell(3, 4, nonlinearity="relu", **o),
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("name", CELLS)
def test_a_single_cell_is_one_step(name, bias):
    torch.manual_seed(0)
    module = CELLS[name](bias=bias)
    cell, params = from_torch(module)
    x = np.random.default_rng(0).normal(size=(T, 3)).astype(np.float32)
    carry, want = cell.initial_carry(params), None
    for step in x:
        carry, y = cell.step(params, carry, step)
        want = module(torch.tensor(step), want)
        assert_close(
            y, np.asarray((want[0] if name == "LSTMCell" else want).detach()), 1e-5
        )
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "cell": module})
    activation = getattr(module, "nonlinearity", None)
    again = from_torch(model.state_dict(), prefix="cell.", activation=activation)
    assert again[0] == cell
    assert_equal(again[1], params)


def test_dropout_between_layers_is_refused_until_the_module_evaluates():
    module = torch.nn.LSTM(3, 4, num_layers=2, dropout=0.5)
    model = torch.nn.ModuleDict({"encoder": module})
    for source, prefix in ((module, ""), (model, "encoder.")):
        with pytest.raises(ValueError, match=r"dropout=0\.5 .* after module\.eval\(\)"):
            from_torch(source, prefix=prefix)
    params = from_torch(module.state_dict())[1]
    assert_equal(from_torch(model.eval(), prefix="encoder.")[1], params)
    # Between one layer and none there is nothing to drop.
    with pytest.warns(UserWarning, match="non-zero dropout"):
        from_torch(torch.nn.LSTM(3, 4, dropout=0.5))


def test_dropout_and_batch_first_do_not_matter_in_evaluation():
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


def state_of(kind="LSTM", **options):
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(3, 4, **{"num_layers": 2} | options)
    return {key: w.numpy() for key, w in module.state_dict().items()}


def changed(change, **options):
    state = state_of(**options)
    change(state)
    return state


def replace(key, change):
    return changed(lambda state: state.update({key: change(state[key])}))


def wide_reverse(state):
    other = torch.nn.LSTM(3, 5, bidirectional=True).state_dict()
    state.update({key: w for key, w in other.items() if key.endswith("_reverse")})


MISFITS = {
    "one bias alone": (
        lambda: changed(lambda s: [s.pop("bias_hh_l0"), s.pop("bias_hh_l1")]),
        "no bias_hh_l0 among",
    ),
    "a bias of one layer": (
        lambda: changed(lambda s: s.pop("bias_ih_l1")),
        "no bias_ih_l1",
    ),
    "a layer in the middle": (
        lambda: changed(
            lambda s: [s.pop(key) for key in list(s) if key.endswith("_l1")], num_layers=3
        ),
        "no bias_hh_l1 among",
    ),
    "directions of two sizes": (
        lambda: changed(wide_reverse, num_layers=1),
        "the same cell, size",
    ),
    "directions of two kinds": (
        lambda: (
            state_of(num_layers=1)
            | {f"{k}_reverse": w for k, w in state_of("GRU", num_layers=1).items()}
        ),
        "the same cell, size",
    ),
    "stacked": (
        lambda: {key: np.stack([w, w]) for key, w in state_of().items()},
        r"weight_ih_l0 must be a matrix, got shape \[2, 16, 3\]; .* one by one",
    ),
    "transposed": (
        lambda: {key: w.T for key, w in state_of().items()},
        r"weight_hh_l0 must be \[3, 16\] beside .*, got \[4, 16\]",
    ),
    "one transposed": (
        lambda: replace("weight_ih_l1", np.transpose),
        r"weight_hh_l1 must be \[4, 4\] beside .*, got \[16, 4\]",
    ),
    "truncated": (
        lambda: replace("bias_ih_l0", lambda b: b[:15]),
        r"bias_ih_l0 must be \[16\] beside .*, got \[15\]",
    ),
    "a broadcast bias": (
        lambda: replace("bias_hh_l0", lambda b: b[:1]),
        r"bias_hh_l0 must be \[16\]",
    ),
    "layers that do not follow": (
        lambda: replace("weight_ih_l1", lambda w: w[:, :3]),
        "equal sizes between neighbours",
    ),
    "integers": (
        lambda: {key: w.astype(np.int8) for key, w in state_of().items()},
        "bias_hh_l0 must hold floating-point numbers, got int8",
    ),
    "complex": (
        lambda: replace("weight_hh_l0", lambda w: w + 0j),
        "weight_hh_l0 must hold floating-point numbers, got complex64",
    ),
    "one in half precision": (
        lambda: replace("weight_hh_l1", lambda w: w.astype(np.float16)),
        "float16 .* cast them to one dtype",
    ),
    "a layer in half precision": (
        lambda: {
            k: w.astype(np.float16) if "l1" in k else w for k, w in state_of().items()
        },
        "the dtypes float16 and float32",
    ),
    "an object": (
        lambda: replace("bias_hh_l0", lambda b: [[1.0], [1.0, 2.0]]),
        "bias_hh_l0, a list, is not a plain array",
    ),
    "on no device": (
        lambda: torch.nn.LSTM(3, 4, device="meta"),
        "_l0, a Tensor, is not a plain array",
    ),
    "a projection of a GRU": (
        lambda: state_of("GRU", num_layers=1) | {"weight_hr_l0": np.ones((4, 6), "f")},
        "no LSTM, GRU or RNN",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_arrays_that_do_not_fit_are_refused_by_name(name):
    source, reason = MISFITS[name]
    with pytest.raises(ValueError, match=reason):
        from_torch(source())


def test_arrays_may_lie_in_memory_as_they_like():
    state = {key: np.asfortranarray(w)[::1] for key, w in state_of().items()}
    assert_equal(from_torch(state)[1], from_torch(state_of())[1])


@pytest.mark.filterwarnings("ignore")
def test_weights_under_other_names_are_refused_with_advice():
    normed = torch.nn.utils.parametrizations.weight_norm(
        torch.nn.LSTM(3, 4), "weight_hh_l0"
    )
    old = torch.nn.utils.weight_norm(torch.nn.LSTM(3, 4), "weight_hh_l0")
    raw = {key.replace("hh_l0", "hh_l0_raw"): w for key, w in state_of().items()}
    for source in (normed, old):
        with pytest.raises(ValueError, match=r"no weight_hh_l0 .*remove the weight norm"):
            from_torch(source)
    with pytest.raises(ValueError, match=r"no bias_hh_l0 .*weight_hh_l0_raw.* weight drop"):
        from_torch(raw)
    both = state_of() | {"weight_hh_l0_raw": np.ones((16, 4), "f")}
    with pytest.raises(ValueError, match=r"no recurrent layer has: \['weight_hh_l0_raw'\]"):
        from_torch(both)
    quantised = torch.ao.quantization.quantize_dynamic(
        torch.nn.Sequential(torch.nn.LSTM(3, 4)), {torch.nn.LSTM}, torch.qint8
    )
    with pytest.raises(ValueError, match="no weight_ih_l0 among .*_all_weight_values"):
        from_torch(quantised[0])


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module."], ids=["torch.compile", "DataParallel"]
)
def test_a_wrapped_module_converts_by_its_prefix_which_the_refusal_names(prefix):
    module = torch.nn.GRU(3, 4, num_layers=2)
    wrapped = torch.nn.ModuleDict({prefix[:-1]: module})
    for source in (wrapped, wrapped.state_dict()):
        assert_equal(from_torch(source, prefix=prefix)[1], from_torch(module)[1])
        with pytest.raises(ValueError, match=f"there is one with prefix='{prefix}'"):
            from_torch(source)


def test_a_prefix_that_is_none_names_the_keys_there_are():
    with pytest.raises(
        ValueError, match=r"no b\.weight_ih_l0 among the keys \['bias_hh_l0"
    ):
        from_torch(state_of(), prefix="b.")


def test_an_activation_must_be_the_modules_own():
    with pytest.raises(ValueError, match="a LSTM has no activation='relu'"):
        from_torch(state_of(), activation="relu")
    module = torch.nn.RNN(3, 4)
    with pytest.raises(ValueError, match="nonlinearity='tanh', not 'relu'"):
        from_torch(module, activation="relu")
    model = torch.nn.ModuleDict({"rnn": torch.nn.RNN(3, 4, nonlinearity="relu")})
    assert from_torch(model, prefix="rnn.")[0] == Elman(3, 4, "relu")


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a module, a state dict or the path .* NoneType"):
        from_torch(None)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"no header")
    with pytest.raises(ValueError, match=r"weights\.safetensors is no safetensors file"):
        from_torch(path)


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

"""The numbers and gradients of PyTorch's modules, with weights copied by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import GRU, LSTM, Bidirectional, Elman, Stack, unroll
from jaxrnn.cells.elman import ElmanCarry, ElmanParams
from jaxrnn.cells.gru import GRUCarry, GRUParams
from jaxrnn.cells.lstm import LSTMCarry, LSTMParams

torch = pytest.importorskip("torch")

T, B, D, H = 7, 2, 3, 5


def columns(weight):
    """PyTorch multiplies from the left: its [n H, D] is our [D, n H]."""
    return jnp.asarray(weight.detach().numpy().T)


def lstm_params(w_x, w_h, b_x, b_h):
    return LSTMParams(columns(w_x), columns(w_h), columns(b_x) + columns(b_h))


def gru_params(w_x, w_h, b_x, b_h):
    # The second bias of r and z joins the first; that of n stays inside the reset.
    b = columns(b_x) + columns(b_h).at[2 * H :].set(0)
    return GRUParams(columns(w_x), columns(w_h), b, columns(b_h)[2 * H :])


def elman_params(w_x, w_h, b_x, b_h):
    return ElmanParams(columns(w_x), columns(w_h), columns(b_x) + columns(b_h))


def lstm_gradient(g, w_x, w_h, b_x, b_h):
    """Our gradient in PyTorch's terms: each of its two biases has that of the sum."""
    return g.w_x.T, g.w_h.T, g.b, g.b


def gru_gradient(g, w_x, w_h, b_x, b_h):
    return g.w_x.T, g.w_h.T, g.b, jnp.concatenate([g.b[: 2 * H], g.b_n])


KINDS = {
    "LSTM": (torch.nn.LSTM, LSTM, lstm_params, lstm_gradient),
    "GRU": (torch.nn.GRU, GRU, gru_params, gru_gradient),
    "Elman": (torch.nn.RNN, Elman, elman_params, lstm_gradient),
}


def our_recurrence(cell, layers, directions):
    def layer(inputs):
        if directions == 1:
            return cell(inputs, H)
        return Bidirectional(cell(inputs, H), cell(inputs, H))

    return Stack([layer(D if i == 0 else directions * H) for i in range(layers)])


def nested(flat, layers, directions):
    """One entry a layer and direction, as our Stack of Bidirectionals has them."""
    if directions == 1:
        return tuple(flat)
    return tuple(zip(flat[::2], flat[1::2], strict=True))


@pytest.mark.parametrize("strategy", ["fused", "scan"])
@pytest.mark.parametrize("layers, directions", [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_pytorch(kind, layers, directions, strategy):
    module_class, cell, as_params, as_gradient = KINDS[kind]
    torch.manual_seed(0)
    module = module_class(D, H, num_layers=layers, bidirectional=directions == 2)
    recurrence = our_recurrence(cell, layers, directions)

    weights = list(module.parameters())
    groups = [weights[i : i + 4] for i in range(0, len(weights), 4)]
    params = nested([as_params(*group) for group in groups], layers, directions)

    random = np.random.default_rng(0)
    xs = random.normal(size=(T, B, D)).astype(np.float32)
    starts = random.normal(size=(2, layers * directions, B, H)).astype(np.float32)
    ys_bar = random.normal(size=(T, B, directions * H)).astype(np.float32)
    last_bar = random.normal(size=starts.shape).astype(np.float32)

    def carries(h, c):
        if kind == "LSTM":
            flat = [LSTMCarry(*pair) for pair in zip(h, c, strict=True)]
        else:
            flat = [{"GRU": GRUCarry, "Elman": ElmanCarry}[kind](each) for each in h]
        return nested(flat, layers, directions)

    torch_xs = torch.tensor(xs, requires_grad=True)
    h, c = (torch.tensor(start, requires_grad=True) for start in starts)
    if kind == "LSTM":
        torch_ys, (h_last, c_last) = module(torch_xs, (h, c))
    else:
        torch_ys, h_last = module(torch_xs, h)
        c_last = c
    loss = (torch_ys * torch.tensor(ys_bar)).sum()
    loss = loss + (h_last * torch.tensor(last_bar[0])).sum()
    if kind == "LSTM":
        loss = loss + (c_last * torch.tensor(last_bar[1])).sum()
    loss.backward()

    @jax.jit
    def both(params, carry, xs):
        outputs, pull = jax.vjp(
            lambda p, c, xs: unroll(recurrence, p, xs, c, strategy=strategy),
            params,
            carry,
            xs,
        )
        return outputs, pull((carries(*last_bar), ys_bar))

    (last, ys), (params_bar, carry_bar, xs_bar) = both(params, carries(*starts), xs)

    def agree(ours, theirs):
        theirs = jax.tree.map(lambda t: t.detach().numpy(), theirs)
        chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-5)

    agree(ys, torch_ys)
    agree(last, carries(h_last, c_last))
    agree(xs_bar, torch_xs.grad)
    agree(carry_bar, carries(h.grad, c.grad if kind == "LSTM" else c))
    flat_bars = params_bar if directions == 1 else sum(params_bar, ())
    for group, g in zip(groups, flat_bars, strict=True):
        agree(as_gradient(g, *group), tuple(weight.grad for weight in group))

"""One library's gradient of one recurrent layer, timed when asked.

    python -m experiments.speed.layer_peers flax.linen lstm 35 20 650

Prints a line of JSON about itself, then the seconds of one gradient for each line that it
reads. `experiments.speed.layers` runs one such process for each library.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn import convert
from jaxrnn.arrays import zeros
from jaxrnn.cell import Cell

from .rivals import answer


class Peer(NamedTuple):
    """A layer: `outputs(weights, inputs)`, and what turns xs and ys to its axes."""

    outputs: Callable[[Any, Any], Any]
    weights: Any
    turned: Callable[[Any], Any] = lambda xs: xs


class Work(NamedTuple):
    """The gradient of sum(ys * weight), as a call that waits for it."""

    gradient: Callable[[], object]
    ys: Callable[[], np.ndarray]


def ours(cell: Cell, params: Any) -> Peer:
    return Peer(lambda params, xs: jaxrnn.unroll(cell, params, xs)[1], params)


def linen(cell: Cell, params: Any, optimized: bool = True) -> Peer:
    from flax import linen

    lstm = linen.OptimizedLSTMCell if optimized else linen.LSTMCell
    kind = {"LSTM": lstm, "GRU": linen.GRUCell}[type(cell).__name__]
    rnn = linen.RNN(kind(cell.hidden_size), time_major=True)
    return Peer(rnn.apply, {"params": {"cell": convert.to_linen(cell, params)}})


def linen_plain(cell: Cell, params: Any) -> Peer:
    return linen(cell, params, optimized=False)


def nnx(cell: Cell, params: Any) -> Peer:
    from flax import nnx

    rnn = nnx.RNN(convert.to_nnx(cell, params), time_major=True)
    graph, weights, rest = nnx.split(rnn, nnx.Param, ...)

    def run(weights: Any, xs: Any) -> Any:
        return nnx.merge(graph, weights, rest, copy=True)(xs)

    return Peer(run, weights)


def haiku(cell: Cell, params: Any) -> Peer:
    import haiku

    name = {"LSTM": "LSTM", "ResetBeforeGRU": "GRU"}[type(cell).__name__]

    def run(xs: Any) -> Any:
        core = getattr(haiku, name)(cell.hidden_size)
        return haiku.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    apply = haiku.without_apply_rng(haiku.transform(run)).apply
    return Peer(apply, convert.to_haiku(cell, params))


def equinox(cell: Cell, params: Any) -> Peer:
    theirs = convert.to_equinox(cell, params)

    def run(theirs: Any, xs: Any) -> Any:
        def step(carry: Any, x: Any) -> tuple[Any, Any]:
            carry = jax.vmap(theirs)(x, carry)
            return carry, carry[0] if isinstance(carry, tuple) else carry

        start = jnp.zeros((xs.shape[1], cell.hidden_size))
        both = (start, start) if isinstance(cell, jaxrnn.LSTM) else start
        return jax.lax.scan(step, both, xs)[1]

    return Peer(run, theirs)


def keras(cell: Cell, params: Any) -> Peer:
    import keras

    layer = getattr(keras.layers, type(cell).__name__)(
        cell.hidden_size, return_sequences=True
    )
    layer.build((None, None, cell.input_size))
    layer.set_weights([np.asarray(w) for w in convert.to_keras(cell, params)])
    trained = [variable.value for variable in layer.trainable_variables]
    rest = [variable.value for variable in layer.non_trainable_variables]

    def run(trained: Any, xs: Any) -> Any:
        return layer.stateless_call(trained, rest, xs)[0]

    return Peer(run, trained, lambda xs: xs.swapaxes(0, 1))


class ProductsParams(NamedTuple):
    w_x: Any  # [D, n H]
    w_h: Any  # [H, n H]


@dataclass(frozen=True)
class Products(jaxrnn.Cell):
    """The products of a cell and none of its arithmetic: its y means nothing."""

    input_size: int
    hidden_size: int
    gates_in_all: int

    def init(self, key: Any, dtype: Any = jnp.float32) -> ProductsParams:
        width = self.gates_in_all * self.hidden_size
        return ProductsParams(
            jnp.zeros((self.input_size, width), dtype),
            jnp.zeros((self.hidden_size, width), dtype),
        )

    def initial_carry(self, params: Any, batch_shape: tuple[int, ...] = ()) -> Any:
        return jaxrnn.ElmanCarry(zeros(params, batch_shape, self.hidden_size))

    def project(self, params: Any, x: Any) -> Any:
        return x @ params.w_x

    def mix(self, params: Any, carry: Any) -> Any:
        return carry.h @ params.w_h

    def gate(self, params: Any, carry: Any, u: Any, r: Any) -> tuple[Any, Any]:
        h = (u + r)[..., : self.hidden_size]
        return jaxrnn.ElmanCarry(h), h


def floor(cell: Cell, params: Any) -> Peer:
    gates = params.w_x.shape[1] // cell.hidden_size
    return ours(
        Products(cell.input_size, cell.hidden_size, gates),
        ProductsParams(params.w_x, params.w_h),
    )


PEERS: dict[str, Callable[[Cell, Any], Peer]] = {
    "jaxrnn": ours,
    "flax.linen": linen,
    "flax.linen, plain": linen_plain,
    "flax.nnx": nnx,
    "haiku": haiku,
    "equinox": equinox,
    "keras": keras,
    "products alone": floor,
}


def cell_of(peer: str, kind: str, size: int) -> Cell:
    """The recurrence that a library's layer is: Haiku's GRU resets before the product."""
    if kind == "lstm":
        return jaxrnn.LSTM(size, size)
    return jaxrnn.ResetBeforeGRU(size, size) if peer == "haiku" else jaxrnn.GRU(size, size)


def in_jax(peer: Peer, xs: np.ndarray, weight: np.ndarray) -> Work:
    outputs = peer.outputs

    def loss(weights: Any, inputs: Any, weight: Any) -> Any:
        return jnp.sum(outputs(weights, inputs) * weight)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    inputs, turned = jnp.asarray(peer.turned(xs)), jnp.asarray(peer.turned(weight))
    return Work(
        lambda: jax.block_until_ready(gradient(peer.weights, inputs, turned)),
        lambda: np.asarray(peer.turned(outputs(peer.weights, inputs))),
    )


def in_torch(cell: Cell, params: Any, xs: np.ndarray, weight: np.ndarray) -> Work:
    import torch

    rnn = getattr(torch.nn, type(cell).__name__)(cell.input_size, cell.hidden_size)
    arrays = convert.to_torch(cell, params)
    rnn.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    inputs = torch.tensor(xs, requires_grad=True)
    weights = torch.tensor(weight)

    def gradient() -> None:
        rnn.zero_grad()
        inputs.grad = None
        (rnn(inputs)[0] * weights).sum().backward()

    return Work(gradient, lambda: rnn(inputs)[0].detach().numpy())


def error(ys: np.ndarray, cell: Cell, params: Any, xs: np.ndarray) -> float:
    """The largest difference from the same layer here."""
    wanted = jaxrnn.unroll(cell, params, jnp.asarray(xs), strategy="scan")[1]
    return float(np.max(np.abs(ys - np.asarray(wanted))))


def main() -> None:
    name, kind, *sizes = sys.argv[1:]
    steps, rows, size = map(int, sizes)
    cell = cell_of(name, kind, size)
    params = cell.init(jax.random.key(0))
    random = np.random.default_rng(0)
    xs = random.normal(size=(steps, rows, size)).astype(np.float32)
    weight = random.normal(size=(steps, rows, size)).astype(np.float32)
    if name == "torch.nn":
        work = in_torch(cell, params, xs, weight)
    else:
        work = in_jax(PEERS[name](cell, params), xs, weight)
    answer(work.gradient, lambda: {"error": error(work.ys(), cell, params, xs)})


if __name__ == "__main__":
    main()

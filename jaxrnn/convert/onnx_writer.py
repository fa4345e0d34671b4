"""Recurrences as graphs of ONNX, each layer one node of the kind that computes the same."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cell import Recurrence
from jaxrnn.cells.elman import Elman, ElmanParams
from jaxrnn.cells.gru import GRU, GRUParams, MinimalGRU, ResetBeforeGRU
from jaxrnn.cells.lstm import (
    LSTM,
    CoupledLSTM,
    CoupledLSTMParams,
)
from jaxrnn.cells.peephole import (
    CoupledPeepholeLSTM,
    CoupledPeepholeLSTMParams,
    PeepholeLSTM,
    PeepholeLSTMParams,
)
from jaxrnn.compose import Bidirectional, Reversed, Stack
from jaxrnn.convert.layout import counterpart, reorder, split_biases
from jaxrnn.convert.onnx import ACTIVATIONS, OF_LSTM
from jaxrnn.extras import require

HELD = (*OF_LSTM, "activation_clip")
OF_GRU = OF_LSTM[:2]

OPSET, FORMAT = 17, 8  # of 2022: what runtimes in use read


class Native(NamedTuple):
    """A node without its surroundings."""

    op: str
    attributes: dict[str, Any]
    weights: dict[str, Array]  # W, R, B, P [directions, ...]

    @property
    def directions(self) -> int:
        return self.weights["W"].shape[0]

    @property
    def carry(self) -> tuple[str, ...]:
        return ("h", "c") if self.op == "LSTM" else ("h",)


def to_onnx(recurrence: Recurrence, params: Any) -> Any:
    """The ModelProto that computes the same.

    Inputs `xs` `[T, B, D]` and the carry, `0.h` (and `0.c` of LSTMs) for the first layer of
    a `Stack` and so on, `[B, H]`, of a Bidirectional `[2, B, H]`; outputs `ys`
    `[T, B, ...]` and the carry after, `0.h.after`. T and B are free. `from_onnx` gives
    back exactly `params`. Raises ValueError for what ONNX has no node for, ImportError
    without the library `onnx`, which the extra `export` brings.
    """
    graph = Graph()
    dtype = jax.tree.leaves(params)[0].dtype
    ys = graph.input("xs", dtype, ("T", "B", recurrence.input_size))
    for number, (part, own) in enumerate(parts_of(recurrence, params)):
        ys = graph.layer(str(number), native(part, own), ys)
    graph.node("Identity", [ys], ["ys"])
    graph.output("ys", dtype, ("T", "B", recurrence.output_size))
    return graph.model()


def parts_of(recurrence: Recurrence, params: Any) -> list[tuple[Recurrence, Any]]:
    """The layers of a Stack, or the one layer."""
    if isinstance(recurrence, Stack):
        return list(zip(recurrence.cells, params, strict=True))
    return [(recurrence, params)]


def native(recurrence: Recurrence, params: Any) -> Native:
    """Raises ValueError if ONNX has no node that computes the same."""
    if isinstance(recurrence, Reversed):
        return _directed("reverse", [native(recurrence.recurrence, params[0])])
    if not isinstance(recurrence, Bidirectional):
        write = counterpart("ONNX", recurrence, WRITERS, REASONS, HELD)
        return write(recurrence, params)
    if recurrence.merge != "concat":
        raise ValueError(f"ONNX cannot hold {recurrence}: it concatenates the directions")
    ahead, back = map(native, recurrence.parts, params)
    if _kind(ahead) != _kind(back):
        raise ValueError(
            f"ONNX cannot hold {recurrence}: both directions of a node are the same cell"
        )
    return _directed("bidirectional", [ahead, back])


def _kind(node: Native) -> tuple:
    """What both directions of a node share: all but the activations."""
    shared = (a for a in node.attributes.items() if a[0] != "activations")
    return node.op, *sorted(shared)


def _directed(direction: str, nodes: list[Native]) -> Native:
    if any(node.attributes.get("direction") for node in nodes):
        raise ValueError("ONNX has no direction within a direction")
    op, attributes, _ = nodes[0]
    activations = [name for n in nodes for name in n.attributes.get("activations", [])]
    more = {"activations": activations} if activations else {}
    weights = {
        place: jnp.concatenate([node.weights[place] for node in nodes])
        for place in nodes[0].weights
    }
    return Native(op, attributes | more | {"direction": direction}, weights)


def _native(op: str, w_x: Array, w_h: Array, b_x: Array, b_h: Array, **more: Any) -> Native:
    weights = {"W": w_x.T[None], "R": w_h.T[None], "B": jnp.concatenate([b_x, b_h])[None]}
    peepholes = more.pop("P", None)
    if peepholes is not None:
        weights["P"] = peepholes[None]
    return Native(op, {"hidden_size": w_h.shape[0]} | more, weights)


def _write_lstm(cell: LSTM, params: Any, **more: Any) -> Native:
    w_x, w_h, b = (reorder(x, (0, 3, 1, 2)) for x in (params.w_x, params.w_h, params.b))
    more |= _functions(cell, *OF_LSTM)
    return _native("LSTM", w_x, w_h, b, jnp.zeros_like(b), **more)


def _write_peephole(cell: Any, params: PeepholeLSTMParams) -> Native:
    _no_clip(cell)
    return _write_lstm(cell, params, P=reorder(params.w_c, (0, 2, 1)))


def _write_coupled(cell: Any, params: CoupledLSTMParams, **more: Any) -> Native:
    def with_forget(x: Array) -> Array:
        i, g, o = jnp.split(x, 3, axis=-1)
        return jnp.concatenate([i, o, jnp.zeros_like(i), g], axis=-1)

    w_x, w_h, b = map(with_forget, (params.w_x, params.w_h, params.b))
    more |= _functions(cell, *OF_LSTM)
    return _native("LSTM", w_x, w_h, b, jnp.zeros_like(b), input_forget=1, **more)


def _write_coupled_peephole(cell: Any, params: CoupledPeepholeLSTMParams) -> Native:
    _no_clip(cell)
    none = jnp.zeros_like(params.w_c[: cell.hidden_size])
    return _write_coupled(cell, cast(Any, params), P=jnp.concatenate([params.w_c, none]))


def _no_clip(cell: Any) -> None:
    if cell.activation_clip is not None:
        raise ValueError(f"ONNX cannot hold {cell}: its peepholes know no activation_clip")


def _write_gru(cell: GRU, params: GRUParams) -> Native:
    b_x, b_h = split_biases(params.b, params.b_n)
    blocks = (reorder(x, (1, 0, 2)) for x in (params.w_x, params.w_h, b_x, b_h))
    return _native("GRU", *blocks, linear_before_reset=1, **_functions(cell, *OF_GRU))


def _write_reset_before(cell: ResetBeforeGRU, params: Any) -> Native:
    w_x, w_h, b = (reorder(x, (1, 0, 2)) for x in params)
    functions = _functions(cell, *OF_GRU)
    return _native("GRU", w_x, w_h, b, jnp.zeros_like(b), **functions)


def _write_elman(cell: Elman, params: ElmanParams) -> Native:
    zeros = jnp.zeros_like(params.b)
    return _native("RNN", *params, zeros, **_functions(cell, "activation"))


def _functions(cell: Any, *fields: str) -> dict[str, Any]:
    """The attributes of what a cell computes elementwise, where it is not the usual."""
    known = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    given = [getattr(cell, field) for field in fields]
    for name in given:
        if name not in known:
            raise ValueError(f"ONNX cannot hold {cell}: it has {', '.join(known)}")
    names = [known[name] for name in given]
    attributes: dict[str, Any] = {"activations": names}
    if getattr(cell, "activation_clip", None) is not None:
        attributes["clip"] = cell.activation_clip
    return attributes


WRITERS = {
    LSTM: _write_lstm,
    PeepholeLSTM: _write_peephole,
    CoupledLSTM: _write_coupled,
    CoupledPeepholeLSTM: _write_coupled_peephole,
    GRU: _write_gru,
    ResetBeforeGRU: _write_reset_before,
    Elman: _write_elman,
}
REASONS = {MinimalGRU: "its GRU has two gates"}


class Graph:
    """A graph that grows from its inputs on."""

    def __init__(self) -> None:
        require("onnx", "export")
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []

    def input(self, name: str, dtype: Any, shape: tuple) -> str:
        self.inputs.append(_value(name, dtype, shape))
        return name

    def output(self, name: str, dtype: Any, shape: tuple) -> None:
        self.outputs.append(_value(name, dtype, shape))

    def constant(self, name: str, array: Any) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def node(self, op: str, inputs: list[str], outputs: list[str], **options: Any) -> str:
        """Returns the name of its first output."""
        from onnx import helper

        name = options.pop("name", outputs[0])
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, **options))
        return outputs[0]

    def layer(self, name: str, node: Native, xs: str) -> str:
        """One layer on top of `xs` `[T, B, D]`, with its carry going in and out; returns
        the name of its outputs `[T, B, ...]`."""
        weights = {k: self.constant(f"{name}.{k}", w) for k, w in node.weights.items()}
        size, dtype = node.attributes["hidden_size"], node.weights["W"].dtype
        one = node.directions == 1
        shape = ("B", size) if one else (node.directions, "B", size)
        carry = []
        for part in node.carry:
            before = self.input(f"{name}.{part}", dtype, shape)
            self.output(f"{name}.{part}.after", dtype, shape)
            carry.append(
                self._turn("Unsqueeze", before, f"{before}.in", 0) if one else before
            )
        given = [xs, weights["W"], weights["R"], weights["B"], "", *carry]
        if "P" in weights:
            given.append(weights["P"])
        y, *after = f"{name}.Y", *(f"{name}.{part}.last" for part in node.carry)
        self.node(node.op, given, [y, *after], name=name, **node.attributes)
        for last, part in zip(after, node.carry, strict=True):
            end = f"{name}.{part}.after"
            if one:
                self._turn("Squeeze", last, end, 0)
            else:
                self.node("Identity", [last], [end])
        if one:
            return self._turn("Squeeze", y, f"{name}.ys", 1)
        turned = self.node("Transpose", [y], [f"{name}.turned"], perm=[0, 2, 1, 3])
        joined = self.constant(f"{name}.joined", np.array([0, 0, -1]))
        return self.node("Reshape", [turned, joined], [f"{name}.ys"])

    def _turn(self, op: str, value: str, into: str, axis: int) -> str:
        return self.node(
            op, [value, self.constant(f"{into}.axes", np.array([axis]))], [into]
        )

    def model(self) -> Any:
        """The ModelProto, checked."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(
            self.nodes, "jaxrnn", self.inputs, self.outputs, self.constants
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=FORMAT)
        onnx.checker.check_model(model)
        return model


def _value(name: str, dtype: Any, shape: tuple) -> Any:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)

"""The recurrent nodes of an ONNX graph, each with the constants that it is given."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.extras import require

OPS = ("LSTM", "GRU", "RNN")
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")

# What lies between two layers and changes the shape alone.
SHAPES = {"Squeeze", "Unsqueeze", "Transpose", "Reshape", "Identity"}


# What is done to constants, no arithmetic among it.
FOLDED = SHAPES | {"Constant", "Concat", "Slice"}


class Found(NamedTuple):
    """One recurrent node."""

    op: str
    name: str
    attributes: dict[str, Any]
    given: dict[str, str]  # the name of the value of each input that it has
    arrays: dict[str, np.ndarray]  # those of them that are constants


def find_nodes(
    source: Any, initializers: Mapping[str, Any] | None, name: str | None
) -> list[Found]:
    """The node, or all nodes of a model, which then follow one another.

    Raises ValueError if there is none, none of this name, or if they make no chain.
    """
    require("onnx", "export")
    import onnx

    if isinstance(source, onnx.NodeProto):
        return [_found(source, dict(initializers or {}))]
    if isinstance(source, str | os.PathLike):
        source = _load(Path(source))
    if not isinstance(source, onnx.ModelProto):
        raise ValueError(
            "from_onnx takes a file, a ModelProto or a NodeProto, got "
            f"{type(source).__name__}"
        )
    constants = _constants(source.graph)
    nodes = [node for node in source.graph.node if node.op_type in OPS]
    if name is not None:
        nodes = [node for node in nodes if node.name == name]
    if not nodes:
        known = [n.name for n in source.graph.node if n.op_type in OPS]
        wanted = "LSTM, GRU or RNN" if name is None else repr(name)
        has = f"; it has {known}" if known else ""
        raise ValueError(f"the graph has no {wanted}{has}")
    _check_chain(source.graph, nodes)
    return [_found(node, constants) for node in nodes]


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path)
    except DecodeError:
        raise ValueError(f"{path} is no file of ONNX") from None


def _constants(graph: Any) -> dict[str, np.ndarray]:
    """Those of the graph, and what it cuts and joins of them, as some exporters do."""
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    known = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type in FOLDED and all(name in known for name in inputs):
            values: Any = ReferenceEvaluator(node).run(None, {n: known[n] for n in inputs})
            known |= dict(zip(node.output, values, strict=True))
    return known


def _found(node: Any, constants: Mapping[str, Any]) -> Found:
    from onnx import helper

    if node.op_type not in OPS:
        raise ValueError(f"from_onnx takes LSTM, GRU and RNN nodes, got {node.op_type}")
    given = dict(zip(INPUTS, node.input, strict=False))
    given = {place: value for place, value in given.items() if value}
    return Found(
        node.op_type,
        node.name or node.op_type,
        {a.name: helper.get_attribute_value(a) for a in node.attribute},
        given,
        {
            place: np.asarray(constants[value])
            for place, value in given.items()
            if value in constants
        },
    )


def _check_chain(graph: Any, nodes: list[Any]) -> None:
    """Raises ValueError unless each node takes the outputs of the one before, in shape
    alone another."""
    makers = {value: node for node in graph.node for value in node.output}
    for below, above in zip(nodes, nodes[1:], strict=False):
        value = above.input[0]
        while (maker := makers.get(value)) is not None and maker.op_type in SHAPES:
            value = maker.input[0]
        if value != below.output[0]:
            names = [node.name for node in nodes]
            raise ValueError(
                f"the recurrent nodes {names} do not follow one another, each on the "
                "outputs of the one before: convert them one by one, by name"
            )

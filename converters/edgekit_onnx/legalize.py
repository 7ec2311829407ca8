"""An int8 graph that TensorRT refuses, mended as far as its meaning stays the same.

What would change a result (uint8 with a zero point of 7, a scale along the wrong axis) is left, and the rules name it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.tensors import Array
from edgekit_onnx.graphs import QUANTIZERS, Graph, bodies, taken_names

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_MIDDLE = 128  # of uint8; less it, every value and the zero point are those of symmetric int8
_SOFTMAXES = ("Softmax", "LogSoftmax")


def legalize(model: ModelProto) -> list[str]:
    """Mend `model` in place; what was done, in words."""
    steps = (
        ("moved from uint8 with zero point 128 to int8 with 0", _to_int8),
        ("int32 biases became float", _float_biases),
        ("pairs behind a softmax were removed", _float_softmax),
    )
    done = []
    for words, step in steps:
        count = step(Graph(model))
        if count:
            done.append(f"{count} {words}")
    Graph(model).remove_unused()
    return done


def _to_int8(graph: Graph) -> int:
    """Q and DQ whose zero point is the middle of uint8, where all that share its integers have the same."""
    found = [node for node in graph.nodes(*QUANTIZERS) if _is_middle(graph, node) and _may_move(graph, node)]
    for node in found:
        _replace(graph, node, 2, np.zeros_like(graph.array(node.input[2]), np.int8))
        if node.input[0] in graph.constants and node.op_type == "DequantizeLinear":
            shifted = graph.array(node.input[0]).astype(np.int16) - _MIDDLE
            _replace(graph, node, 0, shifted.astype(np.int8))
    return len(found)


def _is_middle(graph: Graph, node: NodeProto) -> bool:
    if node.op_type not in QUANTIZERS or len(node.input) < 3 or node.input[2] not in graph.constants:
        return False
    point = graph.array(node.input[2])
    return point.dtype == np.uint8 and bool(np.all(point == _MIDDLE))


def _may_move(graph: Graph, node: NodeProto) -> bool:
    if node.op_type == "DequantizeLinear":
        source = graph.producers.get(node.input[0])
        if source is None:
            return node.input[0] in graph.constants
        return source.op_type == "QuantizeLinear" and _is_middle(graph, source) and _may_move(graph, source)
    partners = _partners(graph, node)
    return bool(partners) and all(_is_middle(graph, partner) for partner in partners)


def _partners(graph: Graph, quantizer: NodeProto) -> list[NodeProto]:
    """The DequantizeLinear nodes behind a QuantizeLinear; none when anything else takes its integers."""
    integers = quantizer.output[0]
    takers = graph.consumers(integers)
    alone = all(taker.op_type == "DequantizeLinear" for taker in takers) and _is_inner(graph, integers)
    return takers if alone else []


def _is_inner(graph: Graph, tensor: str) -> bool:
    """Whether only nodes of the graph itself take a tensor: it is no output, and no loop reaches for it."""
    inside = (name for node in graph.model.graph.node for body in bodies(node) for name in taken_names(body))
    return tensor not in graph.outputs and tensor not in set(inside)


def _float_biases(graph: Graph) -> int:
    """`bias * scale` is what every engine computes with."""
    found = [node for node in graph.nodes("DequantizeLinear") if _is_integer_bias(graph, node)]
    for node in found:
        scale = graph.array(node.input[1])
        _bypass(graph, node, _added(graph, node.output[0], graph.array(node.input[0]).astype(scale.dtype) * scale))
    return len(found)


def _is_integer_bias(graph: Graph, node: NodeProto) -> bool:
    if not all(name in graph.constants for name in node.input) or not _is_inner(graph, node.output[0]):
        return False
    offset = len(node.input) > 2 and bool(np.any(graph.array(node.input[2])))
    return graph.array(node.input[0]).dtype == np.int32 and not offset


def _float_softmax(graph: Graph) -> int:
    found = 0
    for node in graph.nodes("QuantizeLinear"):
        source, partners = graph.producers.get(node.input[0]), _partners(graph, node)
        if source is None or source.op_type not in _SOFTMAXES or not partners:
            continue
        for partner in partners:
            if _is_inner(graph, partner.output[0]):
                _bypass(graph, partner, node.input[0])
            else:
                _hand_on(graph, node.input[0], partner)
        graph.model.graph.node.remove(node)
        found += 1
    return found


def _hand_on(graph: Graph, tensor: str, partner: NodeProto) -> None:
    """An output keeps its name: Identity gives it what the softmax gives."""
    from onnx import helper

    index = list(graph.model.graph.node).index(partner)
    name = partner.output[0]
    graph.model.graph.node.remove(partner)
    graph.model.graph.node.insert(index, helper.make_node("Identity", [tensor], [name], name=f"{name}_float"))


def _bypass(graph: Graph, node: NodeProto, tensor: str) -> None:
    """Who took what `node` gives takes `tensor`; the node goes."""
    for consumer in graph.consumers(node.output[0]):
        for index, name in enumerate(consumer.input):
            if name == node.output[0]:
                consumer.input[index] = tensor
    graph.model.graph.node.remove(node)


def _replace(graph: Graph, node: NodeProto, index: int, values: Array) -> None:
    node.input[index] = _added(graph, f"{node.input[index]}_of_{node.output[0]}", values)


def _added(graph: Graph, name: str, values: Array) -> str:
    from onnx import numpy_helper

    fresh = f"{name}_legal"
    graph.model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), fresh))
    return fresh

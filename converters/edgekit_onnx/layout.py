"""Image inputs with their channels first, for engines and cameras that have them so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.errors import ConversionError
from edgekit_onnx.graphs import Graph

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

_TO_NCHW, _TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def take_nchw(model: ModelProto) -> tuple[str, ...]:
    """Let every input of rank 4 take (n, channels, height, width), in place; their names.

    Raises ConversionError when no input has rank 4.
    """
    graph = Graph(model)
    images = [value for value in model.graph.input if len(value.type.tensor_type.shape.dim) == 4]
    images = [value for value in images if value.name not in graph.constants]
    if not images:
        raise ConversionError("layout 'nchw' is for images: no input has the four dimensions of one; leave it out")
    for value in images:
        _turn(graph, value)
    return tuple(value.name for value in images)


def _turn(graph: Graph, value: ValueInfoProto) -> None:
    from onnx import TensorShapeProto, helper

    nodes, inside = graph.model.graph.node, f"{value.name}_nhwc"
    for node in graph.consumers(value.name):
        if node.op_type == "Transpose" and _order(node) == _TO_NCHW and node.output[0] not in graph.outputs:
            _replace(graph, node.output[0], value.name)
            nodes.remove(node)
        else:
            node.input[:] = [inside if name == value.name else name for name in node.input]
    if any(inside in node.input for node in nodes):
        nodes.insert(0, helper.make_node("Transpose", [value.name], [inside], name=inside, perm=_TO_NHWC))
    shape = value.type.tensor_type.shape
    sizes = list[TensorShapeProto.Dimension]()
    for index in _TO_NCHW:
        size = TensorShapeProto.Dimension()
        size.CopyFrom(shape.dim[index])
        sizes.append(size)
    del shape.dim[:]
    shape.dim.extend(sizes)
    graph.refresh()


def _order(node: NodeProto) -> list[int]:
    return next((list(item.ints) for item in node.attribute if item.name == "perm"), [])


def _replace(graph: Graph, old: str, new: str) -> None:
    for node in graph.consumers(old):
        node.input[:] = [new if name == old else name for name in node.input]

"""Tables of embeddings in int8, with a scale for each row.

TensorRT takes an int8 constant right before a DequantizeLinear alone, which then stands before the Gather. ONNX Runtime
makes floats of the whole table in every call of that, so that for one token at a time rows are better looked up first.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from edgekit_onnx.graphs import Graph
from edgekit_onnx.qdq import constant, dequantize_constant, round_weights

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_LEAST_SIZE = 1 << 16  # values; a smaller table is not worth its error
_LEAST_WIDTH = 32  # narrower rows are coordinates, such as the anchors of a detector


def find_tables(graph: Graph) -> list[NodeProto]:
    """The Gather nodes that look rows up in a large float table which nothing else reads."""
    return [node for node in graph.nodes("Gather") if _is_table(graph, node)]


def write_tables(model: ModelProto, nodes: Collection[str]) -> None:
    """Let these nodes read int8 rows, in place."""
    graph = Graph(model)
    for node in graph.nodes("Gather"):
        if node.name in nodes:
            table = node.input[0]
            node.input[0] = dequantize_constant(graph, table, round_weights(graph.array(table), axis=0))
    graph.remove_unused()


def write_rows(model: ModelProto, nodes: Collection[str]) -> None:
    """Let these nodes look up int8 rows and their scales, and make floats of those alone, in place."""
    from onnx import TensorProto, helper

    graph = Graph(model)
    for node in graph.nodes("Gather"):
        if node.name not in nodes:
            continue
        table, places, rows = node.input[0], node.input[1], node.output[0]
        rounded = round_weights(graph.array(table), axis=0)
        stored = constant(graph, f"{table}_int8", rounded.values)
        scales = constant(graph, f"{table}_scale", rounded.scales[:, None])
        made = [
            helper.make_node("Gather", [stored, places], [f"{rows}_int8"], name=f"{node.name}_int8"),
            helper.make_node(
                "Cast", [f"{rows}_int8"], [f"{rows}_steps"], name=f"{node.name}_steps", to=TensorProto.FLOAT
            ),
            helper.make_node("Gather", [scales, places], [f"{rows}_scale"], name=f"{node.name}_scale"),
            helper.make_node("Mul", [f"{rows}_steps", f"{rows}_scale"], [rows], name=node.name),
        ]
        at = list(graph.model.graph.node).index(node)
        graph.model.graph.node.remove(node)
        for place, new in enumerate(made):
            graph.model.graph.node.insert(at + place, new)
    graph.remove_unused()


def _is_table(graph: Graph, node: NodeProto) -> bool:
    table = graph.constants.get(node.input[0])
    if table is None or len(table.dims) != 2 or any(item.name == "axis" and item.i for item in node.attribute):
        return False
    rows, width = table.dims
    large = rows * width >= _LEAST_SIZE and width >= _LEAST_WIDTH
    return bool(large) and graph.array(table.name).dtype == "float32" and len(graph.consumers(table.name)) == 1

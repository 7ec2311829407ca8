"""Tables of embeddings in int8: a scale for each row, and a DequantizeLinear before the Gather.

That is the form that TensorRT takes: it wants int8 constants right before their DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from edgekit_onnx.graphs import Graph
from edgekit_onnx.qdq import dequantize_constant, round_weights

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


def _is_table(graph: Graph, node: NodeProto) -> bool:
    table = graph.constants.get(node.input[0])
    if table is None or len(table.dims) != 2 or any(item.name == "axis" and item.i for item in node.attribute):
        return False
    rows, width = table.dims
    large = rows * width >= _LEAST_SIZE and width >= _LEAST_WIDTH
    return bool(large) and graph.array(table.name).dtype == "float32" and len(graph.consumers(table.name)) == 1

"""A graph as the rules see it: its constants wherever they stand, and the nodes of its loops too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekit.tensors import Array
from edgekit_onnx.graphs import Graph, bodies

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto


class Values:
    """Look-ups in a model whose names are those of the top graph."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.graph = Graph(model)
        for node in self.graph.nodes("Constant"):
            for attribute in node.attribute:
                if attribute.name == "value":
                    self.graph.constants[node.output[0]] = attribute.t

    @property
    def constants(self) -> dict[str, TensorProto]:
        """Initializers, and what Constant nodes give."""
        return self.graph.constants

    def nodes(self) -> Iterator[NodeProto]:
        """All nodes, those in the bodies of loops and branches too."""
        return _nodes(self.model.graph)

    def array(self, name: str) -> Array | None:
        """The values of a constant; None for what is computed, and for no name at all."""
        return self.graph.array(name) if name in self.constants else None

    def kernels(self) -> Iterator[tuple[NodeProto, str, tuple[int, ...]]]:
        """Nodes with a trained kernel, the constant behind it and its shape."""
        for node in self.graph.weighted():
            kernel = self.graph.kernel(node)
            if kernel is not None:
                yield node, kernel, tuple(self.constants[kernel].dims)


def label(node: NodeProto) -> str:
    """What to call a node: its name, else its first output."""
    return node.name or (node.output[0] if node.output else node.op_type)


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from _nodes(body)

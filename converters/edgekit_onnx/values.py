"""A graph as the rules see it: its constants wherever they stand, and the nodes of its loops too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgekit.tensors import Array
from edgekit_onnx.graphs import KERNEL_AXES, Graph, bodies

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto


class Values:
    """Look-ups in a model whose names are those of the top graph."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.graph = Graph(model)
        self.constants: dict[str, TensorProto] = dict(self.graph.constants)
        for node in self.graph.nodes("Constant"):
            for attribute in node.attribute:
                if attribute.name == "value":
                    self.constants[node.output[0]] = attribute.t

    def nodes(self) -> Iterator[NodeProto]:
        """All nodes, those in the bodies of loops and branches too."""
        return _nodes(self.model.graph)

    def array(self, name: str) -> Array | None:
        """The values of a constant; None for what is computed, and for no name at all."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.constants[name])) if name in self.constants else None

    def kernels(self) -> Iterator[tuple[NodeProto, str, tuple[int, ...]]]:
        """Nodes with a trained kernel, the constant behind it and its shape."""
        for node in self.graph.nodes(*KERNEL_AXES):
            constant = self.behind(node.input[1])
            if constant is not None:
                yield node, constant, tuple(self.constants[constant].dims)

    def behind(self, name: str) -> str | None:
        """The constant that a tensor is, or is quantized or dequantized from."""
        seen = set()
        while name in self.graph.producers and self.graph.producers[name].op_type in (
            "QuantizeLinear",
            "DequantizeLinear",
        ):
            if name in seen:
                return None
            seen.add(name)
            name = self.graph.producers[name].input[0]
        return name if name in self.constants else None


def label(node: NodeProto) -> str:
    """What to call a node: its name, else its first output."""
    return node.name or (node.output[0] if node.output else node.op_type)


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from _nodes(body)

"""An ONNX graph rewritten so that its parts compute apart: what crosses a cut is given from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit_onnx.activations import Activation
from edgekit_onnx.graphs import Graph, bodies

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

CUT = "/cut"


def cut_graph(model: ModelProto, cuts: Sequence[Activation], wanted: Sequence[Activation]) -> ModelProto:
    """A copy cut at these activations.

    The readers of one read a new input instead, called as it is with CUT behind it; only its own Q/DQ pair goes on
    reading it. The wanted tensors that nodes make are the outputs.
    """
    import onnx
    from onnx.helper import make_tensor_value_info

    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    del graph.value_info[:]
    pairs = {item.seen for item in cuts if item.seen != item.name}
    quantizes = {node.input[0] for node in graph.node if set(node.output) & pairs}
    twins = {name: f"{item.name}{CUT}" for item in cuts for name in (item.name, item.seen)}
    for node in graph.node:
        if not (set(node.output) & (pairs | quantizes)):
            _redirect(node, twins)
    made = {name for node in graph.node for name in node.output}
    del graph.output[:]
    graph.output.extend(make_tensor_value_info(i.seen, i.element_type, None) for i in wanted if i.seen in made)
    graph.input.extend(make_tensor_value_info(twins[i.name], i.element_type, None) for i in cuts)
    _drop_unread_inputs(graph, Graph(cut))
    return cut


def _redirect(node: NodeProto, twins: Mapping[str, str]) -> None:
    node.input[:] = [twins.get(name, name) for name in node.input]
    for body in bodies(node):
        for inner in body.node:
            _redirect(inner, twins)


def _drop_unread_inputs(graph: GraphProto, look_up: Graph) -> None:
    from edgekit_onnx.graphs import taken_names

    read = set(taken_names(graph)) | set(look_up.constants)
    kept = [value for value in graph.input if value.name in read]
    del graph.input[:]
    graph.input.extend(kept)

"""The graph of a file that the user brings, in the one form that everything here reads.

Exporters write the same graph in several ways: weights among the inputs, as Constant nodes, or shared through
Identity; nodes without names, or with one name for two; parts as functions. None of it changes what is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.errors import ConversionError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

_FREE_WEIGHTS = 4  # the first IR version whose weights need not be inputs
Shapes = Mapping[str, Sequence[int]]  # by input name, without the batch


def tidied(model: ModelProto, shapes: Shapes) -> tuple[ModelProto, tuple[str, ...]]:
    """The model with open sizes of its inputs given `shapes`, and what was changed that a user may want to know.

    Raises ConversionError when its outputs do not follow.
    """
    notes = []
    if model.functions:
        from onnx.inliner import inline_local_functions

        model = inline_local_functions(model)
        notes.append("its functions were put in the graph's place")
    hidden = _hide_weights(model.graph)
    if hidden:
        model.ir_version = max(model.ir_version, _FREE_WEIGHTS)
        notes.append(f"{hidden} of its inputs had values and are constants now")
    _lift_constants(model.graph)
    _join_shared(model.graph)
    _name_nodes(model.graph)
    return (_at_shapes(model, shapes) if shapes else model), tuple(notes)


def _hide_weights(graph: GraphProto) -> int:
    """Older files list weights among the inputs, so that a caller may replace them."""
    valued = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in valued]
    hidden = len(graph.input) - len(kept)
    if hidden:
        del graph.input[:]
        graph.input.extend(kept)
    return hidden


def _lift_constants(graph: GraphProto) -> None:
    """Constant nodes that hold a tensor become initializers."""
    outputs, kept = {value.name for value in graph.output}, []
    for node in graph.node:
        tensor = next((item.t for item in node.attribute if item.name == "value"), None)
        if node.op_type != "Constant" or tensor is None or node.output[0] in outputs:
            kept.append(node)
            continue
        initializer = graph.initializer.add()
        initializer.CopyFrom(tensor)
        initializer.name = node.output[0]
    if len(kept) != len(graph.node):
        _replace_nodes(graph, kept)


def _join_shared(graph: GraphProto) -> None:
    """What reads the Identity of a constant reads the constant."""
    from edgekit_onnx.graphs import bodies

    constants = {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    same = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Identity" and node.input[0] in constants and node.output[0] not in outputs
    }
    if not same or any(bodies(node) for node in graph.node):  # whose insides may read it by name
        return
    kept = [node for node in graph.node if node.output[0] not in same]
    for node in kept:
        node.input[:] = [same.get(name, name) for name in node.input]
    _replace_nodes(graph, kept)


def _replace_nodes(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)


def _name_nodes(graph: GraphProto) -> None:
    """Each node gets a name of its own: that of its first output where it has none, or another has it too."""
    counted = Counter(node.name for node in graph.node)
    for node in graph.node:
        if not node.name or counted[node.name] > 1:
            node.name = next(name for name in node.output if name)


def _at_shapes(model: ModelProto, shapes: Shapes) -> ModelProto:
    """A copy whose inputs have these sizes, and whose other shapes were inferred anew."""
    import onnx

    batches = {value.name: _batch(value) for value in model.graph.output}
    for value in model.graph.input:
        for dimension, size in zip(value.type.tensor_type.shape.dim[1:], shapes.get(value.name, ()), strict=False):
            dimension.dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    try:
        found = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as problem:
        given = ", ".join(f"{name} {tuple(sizes)}" for name, sizes in shapes.items())
        raise ConversionError(
            f"the graph does not take inputs of {given}: {' '.join(str(problem).split())}"
        ) from problem
    for value in found.graph.output:
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and not dimensions[0].HasField("dim_value") and batches[value.name]:
            dimensions[0].dim_param = batches[value.name]
    return found


def _batch(value: ValueInfoProto) -> str:
    dimensions = value.type.tensor_type.shape.dim
    return str(dimensions[0].dim_param) if dimensions else ""

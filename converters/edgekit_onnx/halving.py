"""The cast of a graph to float16 around given nodes: ONNX Runtime's, with what it leaves behind set right.

And its simulation: ONNX Runtime on a CPU computes float16 nodes in float32 and rounds nothing between them, so the cast
graph itself does not show there what float16 loses on a GPU.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from edgekit_onnx.graphs import Graph

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def name_nodes(model: ModelProto) -> None:
    """Give every node of the main graph a name of its own."""
    seen = set[str]()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)


def cast(model: ModelProto, islands: Collection[str]) -> ModelProto:
    """A float16 copy whose inputs and outputs are float32, as are the nodes named in `islands`."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _own_constants(copy, islands)
    half = convert_float_to_float16(copy, keep_io_types=True, node_block_list=list(islands))
    _share_casts(half)
    _join_islands(half)
    sorted_model = OnnxModel(half)
    sorted_model.topological_sort()  # the casts were appended
    result: ModelProto = sorted_model.model
    del result.graph.value_info[:]  # the types of before
    return result


def simulate(model: ModelProto, islands: Collection[str], floats: Collection[str]) -> ModelProto:
    """A float32 copy in which every value that the cast graph holds in float16 is rounded to it.

    `floats` are the names of all float tensors, constants among them. Sums inside of a node stay float32, as on GPUs.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _own_constants(copy, islands)
    graph = Graph(copy)
    outside = {name for node in copy.graph.node if node.name not in islands for name in node.input}
    _round_constants(graph, outside)
    made = {name for node in copy.graph.node if node.name not in islands for name in node.output}
    nodes: list[NodeProto] = []
    wide = (outside & set(floats)) - made - set(graph.constants)  # inputs and what islands make
    given = {value.name for value in copy.graph.input}
    nodes += [node for name in sorted(wide & given) for node in _round(name, f"{name}_rounded")]
    for node in copy.graph.node:
        island = node.name in islands
        if not island:
            node.input[:] = [f"{name}_rounded" if name in wide else name for name in node.input]
        outputs = [name for name in node.output if name in floats]
        node.output[:] = [f"{name}_whole" if name in outputs and not island else name for name in node.output]
        nodes.append(node)
        for name in outputs:
            if not island:
                nodes += _round(f"{name}_whole", name)
            elif name in wide:
                nodes += _round(name, f"{name}_rounded")
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    del copy.graph.value_info[:]
    return copy


def _round_constants(graph: Graph, names: Collection[str]) -> None:
    from onnx import TensorProto, numpy_helper

    for name in graph.constants.keys() & set(names):
        if graph.constants[name].data_type == TensorProto.FLOAT:
            with np.errstate(over="ignore"):
                rounded = graph.array(name).astype(np.float16).astype(np.float32)
            graph.constants[name].CopyFrom(numpy_helper.from_array(rounded, name))


def _round(source: str, target: str) -> list[NodeProto]:
    from onnx import TensorProto, helper

    half = f"{target}_half"
    return [
        helper.make_node("Cast", [source], [half], name=f"{half}_rounding", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [target], name=f"{target}_rounding", to=TensorProto.FLOAT),
    ]


def _own_constants(model: ModelProto, islands: Collection[str]) -> None:
    """Copies of the constants that islands share with others: a shared one would be cast, and cut at 65504."""
    import onnx

    graph = Graph(model)
    outside = {name for node in model.graph.node if node.name not in islands for name in node.input}
    for node in model.graph.node:
        if node.name not in islands:
            continue
        for index, name in enumerate(node.input):
            if name not in graph.constants or name not in outside:
                continue
            if f"{name}_float32" not in graph.constants:
                own = onnx.TensorProto()
                own.CopyFrom(graph.constants[name])
                own.name = f"{name}_float32"
                model.graph.initializer.append(own)
                graph.constants[own.name] = own
            node.input[index] = f"{name}_float32"


def _share_casts(model: ModelProto) -> None:
    """One cast of a tensor to a type: each reader in an island was given one, all of the same name."""
    seen = set[str]()
    for node in list(model.graph.node):
        if node.op_type == "Cast" and node.output[0] in seen:
            model.graph.node.remove(node)
        elif node.op_type == "Cast":
            seen.add(node.output[0])


def _join_islands(model: ModelProto) -> None:
    """Take out the way through float16 between two float32 nodes, and at float32 inputs and outputs."""
    from onnx import TensorProto

    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        before = producers.get(node.input[0]) if node.input else None
        if before is not None and _casts_to(node, TensorProto.FLOAT) and _is_added(before):
            node.op_type = "Identity"
            node.input[0] = before.input[0]
            del node.attribute[:]
    _drop_idle_casts(model)


def _casts_to(node: NodeProto, dtype: int) -> bool:
    return node.op_type == "Cast" and any(item.name == "to" and item.i == dtype for item in node.attribute)


def _is_added(node: NodeProto) -> bool:
    """Whether it is a cast of ONNX Runtime's from float32 to float16; the model's own may start from integers."""
    return node.op_type == "Cast" and (
        node.name.endswith("_cast_to_fp16_node") or node.name.startswith("graph_input_cast")
    )


def _drop_idle_casts(model: ModelProto) -> None:
    graph = Graph(model)
    used = {name for node in model.graph.node for name in node.input} | graph.outputs
    for node in graph.nodes("Cast"):
        if node.output[0] not in used:
            model.graph.node.remove(node)

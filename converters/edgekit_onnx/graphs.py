"""An ONNX graph with its look-ups, and how one is opened, checked and saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ConversionError
from edgekit.tensors import Array
from edgekit_onnx.reading import opset_of, read_model, try_apart

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

OPSET = 18  # of what is made here
IR_VERSION = 8  # what opset 18 came with, so that the engines that know the one know the other
KERNEL_AXES = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1}  # output channels of the second input
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


class Graph:
    """Look-ups by tensor name. The graph may be edited through `model`; call `refresh` afterwards."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.refresh()

    def refresh(self) -> None:
        """Read the graph again."""
        graph = self.model.graph
        self.constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.producers: dict[str, NodeProto] = {name: node for node in graph.node for name in node.output}
        self.outputs = {value.name for value in graph.output}

    def nodes(self, *types: str) -> Iterator[NodeProto]:
        """Nodes of these operator types, in order, safe against editing."""
        return (node for node in list(self.model.graph.node) if node.op_type in types)

    def consumers(self, tensor: str) -> list[NodeProto]:
        """Nodes that take `tensor`."""
        return [node for node in self.model.graph.node if tensor in node.input]

    def array(self, name: str) -> Array:
        """The values of a constant."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def weighted(self) -> list[NodeProto]:
        """Nodes with a trained kernel: its constant, or its dequantized constant, is their second input."""
        return [node for node in self.nodes(*KERNEL_AXES) if self.kernel(node) is not None]

    def kernel(self, node: NodeProto) -> str | None:
        """The name of the constant behind a node's second input."""
        return self.constant_behind(node.input[1])

    def constant_behind(self, name: str) -> str | None:
        """The name of the constant that a tensor is, or is dequantized from."""
        while name in self.producers and self.producers[name].op_type in QUANTIZERS:
            name = self.producers[name].input[0]
        return name if name in self.constants else None

    def remove_unused(self) -> None:
        """Drop initializers that no node takes, nor one in the body of a loop."""
        used = set(taken_names(self.model.graph)) | self.outputs
        kept = [tensor for tensor in self.model.graph.initializer if tensor.name in used]
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(kept)
        self.refresh()


def bodies(node: NodeProto) -> list[GraphProto]:
    """The graphs inside a node: those of If, Loop and Scan."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def taken_names(graph: GraphProto) -> Iterator[str]:
    """What the nodes of a graph take, and what the bodies of its loops reach for outside of them."""
    for node in graph.node:
        yield from node.input
        for body in bodies(node):
            yield from taken_names(body)
            yield from (value.name for value in body.output)  # a body may hand on a tensor from outside


def rename_tensors(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors everywhere in a graph, and where the bodies of its If and Loop nodes reach for them."""
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for body in bodies(node):
            rename_tensors(body, names)


def kernel_axis(node: NodeProto, rank: int) -> int:
    """The axis of a kernel's output channels."""
    transposed = node.op_type == "Gemm" and any(item.name == "transB" and item.i for item in node.attribute)
    return 0 if transposed else KERNEL_AXES[node.op_type] % rank


def name_in_file(output: str, inputs: Iterable[str]) -> str:
    """An output's tensor name: its Keras name, unless an input has that name."""
    taken = set(inputs)
    while output in taken:
        output += "_output"
    return output


def open_model(path: Path, *, shapes: bool = False) -> ModelProto:
    """Open a file that nobody vouches for: in a process of its own first, then here, with the weights beside it.

    With `shapes`, those of its tensors are inferred. Raises ConversionError in one line when it is not an ONNX model.
    """
    try_apart(path)
    return read_model(path, shapes=shapes)


def save_model(model: ModelProto, path: Path) -> None:
    """Write and check everything. Raises ConversionError when the graph is not valid ONNX.

    Weights in another file have to lie beside `path` already.
    """
    import onnx

    if opset_of(model) <= OPSET:
        model.ir_version = IR_VERSION
    onnx.save(model, str(path))
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as problem:
        raise ConversionError(f"the converted ONNX graph is not valid: {' '.join(str(problem).split())}") from problem

"""An ONNX graph with its look-ups, and how one is opened, checked and saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ConversionError
from edgekit.tensors import Array

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

IR_VERSION = 8  # what opset 18 came with, so that the engines that know the one know the other
KERNEL_AXES = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1}  # output channels of the second input
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")

_INSTALL = 'pip install "edgekit[onnx]"'


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


def open_model(path: Path) -> ModelProto:
    """Read and check a file. Raises ConversionError in one line when it is not an ONNX model."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as problem:
        raise ConversionError(f"an ONNX file is read with onnx, which is not installed: {_INSTALL}") from problem
    if not path.is_file():
        raise ConversionError(f"{path}: no such file")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, UnicodeDecodeError) as problem:
        raise ConversionError(f"{path}: not an ONNX model ({' '.join(str(problem).split())})") from problem
    if not model.graph.node:
        raise ConversionError(f"{path}: an ONNX model without nodes")
    return model


def save_model(model: ModelProto, path: Path) -> None:
    """Check everything and write. Raises ConversionError when the graph is not valid ONNX."""
    import onnx

    model.ir_version = IR_VERSION
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as problem:
        raise ConversionError(f"the converted ONNX graph is not valid: {' '.join(str(problem).split())}") from problem
    onnx.save(model, str(path))

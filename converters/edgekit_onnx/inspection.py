"""What is inside an ONNX file: bytes, precision and sparsity per node, and what stayed in float."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.conversion import Inspection, Layer
from edgekit.errors import ConversionError
from edgekit.tensors import Array, TensorSpec
from edgekit_onnx.given import precision_of
from edgekit_onnx.graphs import KERNEL_AXES, QUANTIZERS, Graph, bodies, open_model
from edgekit_onnx.reading import outside_bytes

if TYPE_CHECKING:
    from onnx import NodeProto, ValueInfoProto

_NEVER_QUANTIZED = ("LSTM", "GRU", "RNN", "Einsum")  # kernels that no int8 form here covers
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def inspect_model(path: Path) -> Inspection:
    """Read one file. A constant's bytes count for the first node that uses it.

    Raises ConversionError when it is not an ONNX model, or a damaged one.
    """
    try:
        return _read(path)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as problem:  # of onnx, which checks less
        told = " ".join(str(problem).split())
        raise ConversionError(
            f"{path} is damaged ({type(problem).__name__}: {told}): copy or make the file again"
        ) from problem


def _read(path: Path) -> Inspection:
    model = open_model(path, shapes=True)
    graph = Graph(model)
    layers, parameters = _layers(graph)
    return Inspection(
        format="onnx",
        inputs=tuple(tensor_spec(value) for value in model.graph.input if value.name not in graph.constants),
        outputs=tuple(tensor_spec(value) for value in model.graph.output),
        bytes=path.stat().st_size + outside_bytes(path),
        parameters=parameters,
        layers=layers,
        precision=precision_of(model),
    )


def tensor_spec(value: ValueInfoProto) -> TensorSpec:
    """Name, shape (None where the size is open) and numpy dtype of a graph's input or output.

    Raises ConversionError for a sequence, a map, or a type that numpy does not have.
    """
    tensor, dtype = value.type.tensor_type, _dtype_of(value)
    if dtype is None:
        kind = value.type.WhichOneof("value") or "value without a type"
        raise ConversionError(f"'{value.name}' is a {kind.removesuffix('_type')} of no known type, expected a tensor")
    sizes = (size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim)
    return TensorSpec(value.name, tuple(None if size < 0 else size for size in sizes), dtype)


def _dtype_of(value: ValueInfoProto) -> str | None:
    from onnx import helper

    if not value.type.HasField("tensor_type"):
        return None
    try:
        return str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    except KeyError:
        return None


def float_layers(graph: Graph, *, activations: bool = True) -> tuple[str, ...]:
    """Nodes with a trained kernel that is float: "conv0 (Conv)"; and loops with products.

    With `activations`, those of integers that read floats, too.
    """
    recurrent = [node for node in graph.nodes(*_NEVER_QUANTIZED) if graph.kernel(node) is not None]
    recurrent += [node for node in graph.nodes("Loop", "Scan") if _multiplies(node)]
    return tuple(
        f"{node.name} ({node.op_type})"
        for node in (*graph.weighted(), *recurrent)
        if bodies(node) or not all(_dequantized(graph, name) for name in node.input[0 if activations else 1 : 2])
    )


def _multiplies(node: NodeProto) -> bool:
    inner = [inside for body in bodies(node) for inside in body.node]
    return any(inside.op_type in KERNEL_AXES or _multiplies(inside) for inside in inner)


def _dequantized(graph: Graph, tensor: str) -> bool:
    return tensor in graph.producers and graph.producers[tensor].op_type == "DequantizeLinear"


def _layers(graph: Graph) -> tuple[tuple[Layer, ...], int]:
    """One layer per node and the number of parameters; a kernel's dequantization is part of the node it feeds."""
    dtypes = {value.name: _dtype_of(value) for value in (*graph.model.graph.value_info, *graph.model.graph.output)}
    layers: list[Layer] = []
    counted: dict[str, Array] = {}
    for node in graph.model.graph.node:
        if node.op_type in QUANTIZERS and graph.constant_behind(node.input[0]) is not None:
            continue
        names = [name for name in map(graph.constant_behind, node.input) if name is not None]
        constants = {name: graph.array(name) for name in names}
        fresh = {name: values for name, values in constants.items() if name not in counted}
        output_dtype = next((dtypes.get(name) for name in node.output if name), None)
        layers.append(_layer(node, constants, fresh, output_dtype or "unknown"))
        counted |= fresh
    return tuple(layers), sum(values.size for values in counted.values() if _is_parameter(values))


def _layer(node: NodeProto, constants: dict[str, Array], fresh: dict[str, Array], output_dtype: str) -> Layer:
    weights = [] if node.op_type in QUANTIZERS else [values for values in constants.values() if _is_parameter(values)]
    kernel = max(weights, key=lambda values: values.size, default=None)
    dtype = str(kernel.dtype) if kernel is not None else output_dtype
    return Layer(
        name=node.name or next(iter(node.output), ""),
        type=node.op_type,
        bytes=sum(values.nbytes for values in fresh.values()),
        precision=_PRECISIONS.get(dtype, dtype),
        sparsity=float(np.mean(kernel == 0)) if kernel is not None else None,
    )


def _is_parameter(values: Array) -> bool:
    """Trained constants have a rank and are float or int8; scalars, shapes and axes are settings."""
    return values.ndim > 0 and values.dtype in (np.float32, np.float16, np.int8)

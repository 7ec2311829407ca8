"""Explicit quantization: pairs of QuantizeLinear and DequantizeLinear, and kernels in int8, written into a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.tensors import Array
from edgekit_onnx.graphs import Graph, kernel_axis

if TYPE_CHECKING:
    from onnx import NodeProto

LEVELS = 127


@dataclass(frozen=True)
class Kernel:
    """An int8 kernel and its scales, one per output channel along `axis`."""

    values: Array  # int8, the kernel's shape
    scales: Array  # float32, (channels,)
    axis: int


def round_kernel(graph: Graph, node: NodeProto) -> Kernel:
    """A node's float32 kernel on a grid per output channel whose largest weight is LEVELS steps."""
    weights = graph.array(graph.kernel(node) or "")
    axis = kernel_axis(node, weights.ndim)
    others = tuple(index for index in range(weights.ndim) if index != axis)
    peaks = np.abs(weights).max(axis=others, keepdims=True)
    scales = np.where(peaks > 0, peaks / LEVELS, 1.0 / LEVELS).astype(np.float32)  # a channel of zeros takes any
    scales = np.maximum(scales, np.finfo(np.float32).tiny)
    return Kernel(np.clip(np.rint(weights / scales), -LEVELS, LEVELS).astype(np.int8), scales.reshape(-1), axis)


def dequantize_kernel(graph: Graph, node: NodeProto, kernel: Kernel) -> None:
    """Feed a node from int8 weights through a DequantizeLinear per output channel."""
    from onnx import helper

    name = f"{graph.kernel(node)}_int8_{kernel.axis}"
    if f"{name}_dequantized" not in graph.producers:
        dequantize = helper.make_node(
            "DequantizeLinear",
            [
                constant(graph, name, kernel.values),
                constant(graph, f"{name}_scale", kernel.scales),
                constant(graph, f"{name}_zero_point", np.zeros(len(kernel.scales), np.int8)),
            ],
            [f"{name}_dequantized"],
            name=f"{name}_DequantizeLinear",
            axis=kernel.axis,
        )
        graph.model.graph.node.insert(0, dequantize)
        graph.producers[f"{name}_dequantized"] = dequantize
    node.input[1] = f"{name}_dequantized"


def insert_pair(graph: Graph, tensor: str, settings: Sequence[str]) -> str:
    """Round a tensor right after it is made; `settings` are the names of scale and zero point.

    Gives the name of what its readers may read instead. A second call for the same tensor changes nothing.
    """
    from onnx import helper

    target = f"{tensor}_dequantized"
    if target in graph.producers:
        return target
    quantize = helper.make_node(
        "QuantizeLinear", [tensor, *settings], [f"{tensor}_quantized"], name=f"{tensor}_QuantizeLinear"
    )
    dequantize = helper.make_node(
        "DequantizeLinear", [f"{tensor}_quantized", *settings], [target], name=f"{tensor}_DequantizeLinear"
    )
    nodes = graph.model.graph.node
    after = next((index + 1 for index, other in enumerate(nodes) if tensor in other.output), 0)
    nodes.insert(after, quantize)
    nodes.insert(after + 1, dequantize)
    graph.refresh()
    return target


def constant(graph: Graph, name: str, values: Array) -> str:
    """The name of a constant, which is stored unless one of that name is there."""
    from onnx import numpy_helper

    if name not in graph.constants:
        graph.model.graph.initializer.append(numpy_helper.from_array(values, name))
        graph.constants[name] = graph.model.graph.initializer[-1]
    return name

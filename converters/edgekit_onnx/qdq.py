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


def round_weights(weights: Array, axis: int) -> Kernel:
    """Float32 weights on a grid for each place along `axis`, whose largest weight is LEVELS steps."""
    others = tuple(index for index in range(weights.ndim) if index != axis)
    peaks = np.abs(weights).max(axis=others, keepdims=True)
    scales = np.where(peaks > 0, peaks / LEVELS, 1.0 / LEVELS).astype(np.float32)  # a channel of zeros takes any
    scales = np.maximum(scales, np.finfo(np.float32).tiny)
    steps = weights / scales
    np.clip(np.rint(steps, out=steps), -LEVELS, LEVELS, out=steps)  # in place: a matrix may take a gigabyte
    return Kernel(steps.astype(np.int8), scales.reshape(-1), axis)


def round_kernel(graph: Graph, node: NodeProto) -> Kernel:
    """A node's float32 kernel on a grid per output channel."""
    weights = graph.array(graph.kernel(node) or "")
    return round_weights(weights, kernel_axis(node, weights.ndim))


def activation_scale(limit: float) -> Array:
    """The step of an activation whose largest magnitude in range is `limit`, a float32 scalar."""
    return np.array(max(limit / LEVELS, float(np.finfo(np.float32).tiny)), np.float32)


def round_activations(values: Array, limit: float) -> Array:
    """What a Q/DQ pair gives of activations whose largest magnitude in range is `limit`."""
    scale = activation_scale(limit)
    return np.asarray(np.clip(np.rint(values / scale), -LEVELS - 1, LEVELS) * scale)


def dequantize_kernel(graph: Graph, node: NodeProto, kernel: Kernel) -> None:
    """Feed a node from int8 weights through a DequantizeLinear per output channel."""
    node.input[1] = dequantize_constant(graph, graph.kernel(node) or "", kernel)


def dequantize_constant(graph: Graph, name: str, kernel: Kernel) -> str:
    """The name of what a DequantizeLinear makes of the int8 form of a constant, added unless it is there."""
    from onnx import helper

    stored = f"{name}_int8_{kernel.axis}"
    target = f"{stored}_dequantized"
    if target not in graph.producers:
        dequantize = helper.make_node(
            "DequantizeLinear",
            [
                constant(graph, stored, kernel.values),
                constant(graph, f"{stored}_scale", kernel.scales),
                constant(graph, f"{stored}_zero_point", np.zeros(len(kernel.scales), np.int8)),
            ],
            [target],
            name=f"{stored}_DequantizeLinear",
            axis=kernel.axis,
        )
        graph.model.graph.node.insert(0, dequantize)
        graph.producers[target] = dequantize
    return target


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

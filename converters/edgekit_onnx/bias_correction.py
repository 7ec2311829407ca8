"""Bias correction: the mean error that rounded weights make in a node's output is taken off its bias.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, with the mean
of each input channel measured on calibration samples. Padding is not counted: a border sees zeros instead of the mean.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgekit.ranges import mean_error
from edgekit.tensors import Array
from edgekit_onnx.graphs import Graph, kernel_axis
from edgekit_onnx.qdq import constant, round_kernel

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

CHANNEL_AXES = {"Conv": 1, "MatMul": -1, "Gemm": -1}  # of what a node reads; the operators that are corrected


def correct_biases(model: ModelProto, nodes: Collection[str], means: Mapping[str, Array]) -> ModelProto:
    """A copy of a float model whose biases make up for what rounding these nodes' kernels will add on average.

    `means` are of each channel of what the nodes read, by tensor name, shape (channels,).
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    for node in graph.nodes(*CHANNEL_AXES):
        if node.name in nodes and np.all(np.isfinite(means.get(node.input[0], np.nan))):
            _correct(graph, node, _shift(graph, node, means[node.input[0]]))
    return copy


def _shift(graph: Graph, node: NodeProto, means: Array) -> Array:
    """What rounding adds to each output channel on average, shape (channels,)."""
    weights, rounded = graph.array(graph.kernel(node) or ""), round_kernel(graph, node)
    axis = kernel_axis(node, weights.ndim)
    errors = np.moveaxis(rounded.values, axis, 0) * rounded.scales.reshape(-1, *[1] * (weights.ndim - 1)).astype(float)
    errors = errors - np.moveaxis(weights, axis, 0)
    # (channels, inputs), over the positions of a convolution's kernel
    rows = errors.reshape(*errors.shape[:2], -1).sum(axis=-1) if node.op_type == "Conv" else errors
    return mean_error(rows, means)


def _correct(graph: Graph, node: NodeProto, shift: Array) -> None:
    """Set the bias: a convolution's own, or the constant that is added next."""
    if node.op_type in ("Conv", "Gemm"):
        name = node.input[2] if len(node.input) > 2 else ""
        if name and name not in graph.constants:
            return
        bias = graph.array(name) if name else np.zeros(len(shift), np.float32)
        own = constant(graph, f"{node.name}_corrected", (bias - shift).astype(np.float32))
        node.input[:] = [*node.input[:2], own]
        return
    readers = graph.consumers(node.output[0])
    if len(readers) != 1 or readers[0].op_type != "Add" or node.output[0] in graph.outputs:
        return
    place = next((index for index, name in enumerate(readers[0].input) if name in graph.constants), None)
    if place is not None and graph.array(readers[0].input[place]).shape == shift.shape:
        corrected = (graph.array(readers[0].input[place]) - shift).astype(np.float32)
        readers[0].input[place] = constant(graph, f"{node.name}_corrected", corrected)

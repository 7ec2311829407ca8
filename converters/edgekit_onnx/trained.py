"""The int8 file of a quantization-aware trained model: tf2onnx's export, rebuilt into what TensorRT accepts.

The export has activations as uint8 Q/DQ pairs with zero points, and kernels as floats that lie on their trained grid.
TensorRT wants symmetric int8 for both. The ranges stay the trained ones: an activation's scale is the larger end of
its range over 127, a kernel's the one that its grid has. See "Explicit Quantization" in NVIDIA's TensorRT guide.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ConversionError
from edgekit.tensors import Array
from edgekit_onnx.graphs import QUANTIZERS, Graph, bodies, kernel_axis, taken_names
from edgekit_onnx.qdq import LEVELS, Kernel, constant, dequantize_kernel, insert_pair

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_ON_GRID = 1e-3  # of a quantization step; float32 rounding stays below 1e-4
_MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "ReverseSequence", "Slice")
_TRANSPARENT = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "AveragePool", "Identity", "Pad")


def rebuild(model: ModelProto, *, trained_kernels: int) -> None:
    """Make the activations symmetric and give every trained kernel its own dequantization, in place.

    `trained_kernels` is how many the training graph fake-quantized. Raises ConversionError when fewer are found on
    their grid: something in the conversion changed them after they were quantized.
    """
    graph = Graph(model)
    _drop_border_pairs(graph)
    for node in graph.nodes(*QUANTIZERS):
        _make_symmetric(graph, node)
    kernels = {node.name: recover_kernel(graph, node) for node in graph.weighted()}
    off_grid = [name for name, kernel in kernels.items() if kernel is None]
    if len(kernels) - len(off_grid) < trained_kernels:
        raise ConversionError(
            f"{trained_kernels} kernels were trained for int8, {len(kernels) - len(off_grid)} are on their int8 grid "
            f"in the ONNX graph; off it: {', '.join(off_grid) or 'none, the others are not constants'}"
        )
    for node in graph.weighted():
        kernel, source = kernels[node.name], _quantized_source(graph, node)
        if kernel is not None and source is not None:
            _quantize_directly(graph, node, source)
            dequantize_kernel(graph, node, kernel)
    graph.remove_unused()
    del model.graph.value_info[:]  # the types of before


def recover_kernel(graph: Graph, node: NodeProto) -> Kernel | None:
    """The integers and scales behind a fake-quantized kernel, or None when a channel lies on no grid.

    A channel's largest weight is some k <= 127 of its steps: k is 127 where the channel sets its own scale, less
    where one scale serves the whole kernel. The largest k that puts the channel on integers is taken.
    """
    name = graph.kernel(node)
    weights = graph.array(name) if name is not None else np.zeros(0)
    if weights.dtype != np.float32:
        return None
    axis = kernel_axis(node, weights.ndim)
    channels = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).astype(np.float64)
    scales = _grid_scales(channels)
    if scales is None:
        return None
    shape = [1] * weights.ndim
    shape[axis] = -1
    return Kernel(np.rint(weights / scales.reshape(shape)).astype(np.int8), scales, axis)


def _grid_scales(channels: Array) -> Array | None:
    """Scales of shape (channels,) for weights of shape (channels, n)."""
    peaks = np.abs(channels).max(axis=1)
    scales = np.where(peaks > 0, 0.0, 1.0 / LEVELS)  # a channel of zeros takes any scale
    for level in range(LEVELS, 0, -1):
        (open_channels,) = np.nonzero(scales == 0)
        if not open_channels.size:
            break
        steps = channels[open_channels] * (level / peaks[open_channels, None])
        found = np.abs(steps - np.rint(steps)).max(axis=1) < _ON_GRID
        scales[open_channels[found]] = peaks[open_channels[found]] / level
    return scales.astype(np.float32) if np.all(scales > 0) else None


def _drop_border_pairs(graph: Graph) -> None:
    """Remove the pairs after a softmax, which TensorRT does not quantize, and those at an output, which only round.

    Pairs before a loop only round, too, and ONNX Runtime 1.31 breaks down when it moves one past a Transpose into it.
    """
    for dequantize in graph.nodes("DequantizeLinear"):
        quantize = graph.producers.get(dequantize.input[0])
        if quantize is None or quantize.op_type != "QuantizeLinear":
            continue
        before = graph.producers.get(quantize.input[0])
        ends = dequantize.output[0] in graph.outputs and not graph.consumers(dequantize.output[0])
        after_softmax = before is not None and before.op_type == "Softmax"
        if after_softmax or (ends and before is not None) or _enters_loop(graph, dequantize.output[0]):
            _bypass(graph, quantize, dequantize)


def _enters_loop(graph: Graph, tensor: str) -> bool:
    """True when the body of a loop reaches for a tensor, or for its values after operators that only move them."""
    inside = {name for node in graph.model.graph.node for body in bodies(node) for name in taken_names(body)}
    moved = [node for node in graph.consumers(tensor) if node.op_type in _MOVES]
    return tensor in inside or any(_enters_loop(graph, node.output[0]) for node in moved)


def _bypass(graph: Graph, quantize: NodeProto, dequantize: NodeProto) -> None:
    """Join what comes before a pair to what comes after it; a graph output keeps its name."""
    before, after = quantize.input[0], dequantize.output[0]
    kept, gone = (after, before) if after in graph.outputs else (before, after)
    if gone in graph.outputs:
        return
    graph.model.graph.node.remove(dequantize)
    if not graph.consumers(quantize.output[0]):
        graph.model.graph.node.remove(quantize)
    _rename_in(graph.model.graph, gone, kept)
    graph.refresh()


def _rename_in(graph: GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        _rename(node.input, old, new)
        _rename(node.output, old, new)
        for body in bodies(node):
            _rename_in(body, old, new)


def _rename(names: MutableSequence[str], old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _make_symmetric(graph: Graph, node: NodeProto) -> None:
    """Give an activation's Q or DQ the zero point 0 and a scale that covers the larger end of its range."""
    scale, zero_point = graph.array(node.input[1]), graph.array(node.input[2])
    limits = np.iinfo(zero_point.dtype)
    low, high = ((int(limit) - int(zero_point)) * float(scale) for limit in (limits.min, limits.max))
    symmetric = np.float32(max(abs(low), abs(high)) / LEVELS)
    if not (np.isfinite(symmetric) and symmetric > 0):
        raise ConversionError(f"the trained range of '{node.name}' is [{low}, {high}]: train for longer")
    node.input[1] = constant(graph, f"{node.input[1]}_{node.input[2]}_symmetric", np.array(symmetric))
    node.input[2] = constant(graph, "zero_point_int8", np.array(0, np.int8))
    del node.attribute[:]


def _quantized_source(graph: Graph, node: NodeProto) -> NodeProto | None:
    """The DequantizeLinear behind a node's first input, through operators that only move values or pad with zeros.

    Averages of a few values are rounded to the grid of those values, as TFLite's kernel does.
    """
    producer = graph.producers.get(node.input[0])
    while producer is not None and producer.op_type in _TRANSPARENT and _keeps_grid(graph, producer):
        producer = graph.producers.get(producer.input[0])
    return producer if producer is not None and producer.op_type == "DequantizeLinear" else None


def _keeps_grid(graph: Graph, node: NodeProto) -> bool:
    """False for a Pad with a value that may lie between two quantization steps."""
    if node.op_type != "Pad" or len(node.input) < 3 or not node.input[2]:
        return True
    return node.input[2] in graph.constants and not np.any(graph.array(node.input[2]))


def _quantize_directly(graph: Graph, node: NodeProto, source: NodeProto) -> None:
    """Repeat a pair right before a node, which is exact but for averages: TensorRT does not look through padding."""
    tensor, settings = node.input[0], source.input[1:]
    if tensor == source.output[0]:
        return
    node.input[0] = insert_pair(graph, tensor, settings)

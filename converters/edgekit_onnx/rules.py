"""TensorRT's rules for explicit quantization, as checks of an int8 ONNX graph.

Each rule names the nodes that break it. They come from refusals of the TensorRT-RTX parser and builder, and from what
these accept in silence and then get wrong (weights that are not finite, a graph without nodes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ConversionError
from edgekit_onnx.graphs import QUANTIZERS, Graph

if TYPE_CHECKING:
    from onnx import ModelProto


def check_rules(model: ModelProto) -> None:
    """Raise ConversionError that lists every broken rule with its first node."""
    graph = Graph(model)
    broken = [f"{rule} ({names[0]})" for rule, find in _RULES.items() if (names := find(graph))]
    if broken:
        raise ConversionError(f"TensorRT would not take this int8 graph: {'; '.join(broken)}")


def _no_nodes(graph: Graph) -> list[str]:
    return [] if graph.model.graph.node else [graph.model.graph.name]


def _offset_zero_points(graph: Graph) -> list[str]:
    return [
        node.name
        for node in graph.nodes(*QUANTIZERS)
        if len(node.input) > 2 and np.any(graph.array(node.input[2]) != 0)
    ]


def _unsigned(graph: Graph) -> list[str]:
    return [
        node.name
        for node in graph.nodes(*QUANTIZERS)
        if len(node.input) < 3 or graph.array(node.input[2]).dtype == np.uint8
    ]


def _dequantized_biases(graph: Graph) -> list[str]:
    return [
        node.name
        for node in graph.nodes("DequantizeLinear")
        if node.input[0] in graph.constants and graph.array(node.input[0]).dtype == np.int32
    ]


def _quantized_softmax(graph: Graph) -> list[str]:
    return [
        node.name
        for node in graph.nodes("QuantizeLinear")
        if node.input[0] in graph.producers and graph.producers[node.input[0]].op_type == "Softmax"
    ]


def _not_finite(graph: Graph) -> list[str]:
    floats = (name for name in graph.constants if graph.array(name).dtype.kind == "f")
    return [name for name in floats if not np.all(np.isfinite(graph.array(name)))]


_RULES: dict[str, Callable[[Graph], list[str]]] = {
    "no nodes": _no_nodes,
    "a zero point that is not 0": _offset_zero_points,
    "uint8 where int8 is needed": _unsigned,
    "a dequantized int32 bias": _dequantized_biases,
    "a quantized softmax": _quantized_softmax,
    "weights that are not finite": _not_finite,
}

"""SmoothQuant: large channels of activations are made smaller, and the weights that meet them larger.

Xiao et al. 2022, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models", (4).
One scale serves all channels of an activation, so that a few large channels cost the others their steps, while weights
have a scale for each output. The factors are powers of two: the float model computes what it did, to the last bit. They
are a node of their own before the products, because the residual of an encoder reads its LayerNorm unscaled.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.ranges import snr_db
from edgekit.tensors import Array
from edgekit_onnx.graphs import QUANTIZERS, Graph, kernel_axis
from edgekit_onnx.qdq import constant, round_activations, round_weights
from edgekit_onnx.ranges import Seen

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

PRODUCTS = ("MatMul", "Gemm")
_SUFFIX = "_smoothed"
_STRENGTHS = (0.5, 0.65, 0.8, 0.9)  # the share of a channel's size that moves into the weights
_LEAST_GAIN_DB = 1.0  # below it the extra node is not worth its time
_MOST_BITS = 16  # of a factor's exponent, so that nothing leaves the range of float32


@dataclass(frozen=True)
class Smoothed:
    """A model whose products read activations that int8 rounds better."""

    model: ModelProto
    seen: Mapping[str, Seen]  # of what its nodes read
    notes: tuple[str, ...]


def smooth(model: ModelProto, nodes: Collection[str], seen: Mapping[str, Seen]) -> Smoothed:
    """A copy in which these nodes read smoothed activations, where that helps.

    For each activation the strength is the one whose rounded products are nearest to the float ones, on other samples
    than its channels were measured on: channels made equally large leave no room for a sample that is larger in one.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, after = Graph(copy), dict(seen)
    readers = _readers(graph, nodes)
    gains = list[float]()
    for tensor, own in readers.items():
        if not (np.all(np.isfinite(seen[tensor].peaks)) and np.any(seen[tensor].peaks)):
            continue
        factors, gain = choose_factors(seen[tensor], np.concatenate([_kernel(graph, node) for node in own], axis=1))
        if gain >= _LEAST_GAIN_DB:
            after[_scale(graph, tensor, own, factors)] = seen[tensor].over(factors)
            gains.append(gain)
    if not gains:
        return Smoothed(model, seen, ())
    said = (
        f"outliers of {len(gains)} of {len(readers)} activations moved into the weights that read them: "
        f"their products gain {np.median(gains):.1f} dB (median)"
    )
    return Smoothed(copy, after, (said,))


def is_smoothing(node: NodeProto) -> bool:
    """Whether a node divides an activation by its factors: no layer of the model's."""
    return node.op_type == "Mul" and node.output[0] == f"{node.input[0]}{_SUFFIX}"


def smoothed_by(graph: Graph, tensor: str) -> Array:
    """What each channel of an activation was multiplied by before it was rounded: (channels,), or a 1 for all."""
    while (node := graph.producers.get(tensor)) is not None and node.op_type in QUANTIZERS:
        tensor = node.input[0]
    return np.ones(()) if node is None or not is_smoothing(node) else graph.array(node.input[1])


def choose_factors(seen: Seen, weights: Array) -> tuple[Array, float]:
    """(factors, gain in dB over none): what each channel is divided by, powers of two, shape (channels,).

    `weights` (channels, outputs) are those of all products that read the activation.
    """
    expected = seen.rows @ weights

    def quality(factors: Array) -> float:
        rounded = round_activations(seen.rows / factors, float((seen.early / factors).max()))
        kernel = round_weights(weights * factors[:, None], axis=1)
        return snr_db([expected], [rounded @ (kernel.values * kernel.scales)])

    tried = [_factors(seen.early, np.abs(weights).max(axis=1), strength) for strength in _STRENGTHS]
    best = max(tried, key=quality)
    return best, quality(best) - quality(np.ones_like(best))


def _factors(peaks: Array, weights: Array, strength: float) -> Array:
    """Equation (4), rounded to powers of two; 1 for a channel or a row of zeros."""
    moved = (peaks > 0) & (weights > 0)
    exponents = strength * np.log2(np.where(moved, peaks, 1)) - (1 - strength) * np.log2(np.where(moved, weights, 1))
    factors: Array = np.exp2(np.clip(np.rint(exponents), -_MOST_BITS, _MOST_BITS)).astype(np.float32)
    return factors


def _readers(graph: Graph, nodes: Collection[str]) -> dict[str, list[NodeProto]]:
    """The products of each activation whose kernels no other node takes."""
    found: dict[str, list[NodeProto]] = {}
    for node in graph.nodes(*PRODUCTS):
        if node.name in nodes and node.input[1] in graph.constants and len(graph.constants[node.input[1]].dims) == 2:
            found.setdefault(node.input[0], []).append(node)
    return {
        tensor: own
        for tensor, own in found.items()
        if all(reader in own for node in own for reader in graph.consumers(node.input[1]))
    }


def _kernel(graph: Graph, node: NodeProto) -> Array:
    """A product's weights as (channels, outputs)."""
    weights = graph.array(node.input[1])
    return weights if kernel_axis(node, 2) == 1 else weights.T


def _scale(graph: Graph, tensor: str, readers: Sequence[NodeProto], factors: Array) -> str:
    """Divide an activation by the factors before these nodes, and multiply their kernels; its new name."""
    from onnx import helper

    smoothed = f"{tensor}{_SUFFIX}"
    multiply = helper.make_node(
        "Mul", [tensor, constant(graph, f"{smoothed}_by", 1 / factors)], [smoothed], name=f"{smoothed}_Mul"
    )
    nodes = graph.model.graph.node
    nodes.insert(next((index + 1 for index, other in enumerate(nodes) if tensor in other.output), 0), multiply)
    for node in readers:
        own = factors[:, None] if kernel_axis(node, 2) == 1 else factors
        node.input[0] = smoothed
        node.input[1] = constant(graph, f"{node.input[1]}{_SUFFIX}", graph.array(node.input[1]) * own)
    graph.remove_unused()
    return smoothed

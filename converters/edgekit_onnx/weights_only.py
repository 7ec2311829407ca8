"""Weights in int8 or int4 and all activations in float, for models that read all their weights for a few values.

Each kernel is an integer constant behind a DequantizeLinear: int8 with a scale for each output channel, int4 with one
for each block of what it reads, which ONNX has from opset 21 on. Weights are rounded to nearest: nothing is calibrated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit_onnx.graphs import Graph
from edgekit_onnx.int8 import OF_ACTIVATIONS, choose, told_left
from edgekit_onnx.opsets import at_opset
from edgekit_onnx.options import ONNXOptions
from edgekit_onnx.qdq import constant, dequantize_kernel, round_kernel
from edgekit_onnx.tables import write_rows

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

INT8, INT4 = "dynamic-int8", "int4-weights"
INT4_OPSET, _INT4_IR_VERSION = 21, 10
_LEVELS = 7  # of int4 on either side of 0, as int8 has 127


def quantize_weights(
    model: ModelProto, precision: str, options: ONNXOptions, layers: Sequence[str]
) -> tuple[ModelProto, tuple[str, ...]]:
    """The model with integer weights, and what a reader of the report must know. `precision` is INT8 or INT4.

    `model` itself may be changed: a copy would take as much memory again. A kernel of another operator than MatMul, or
    one that blocks do not divide, is int8 in both. Raises ConversionError.
    """
    chosen, made = choose(Graph(model), options.keep_float, layers), model
    if precision == INT4:
        made = at_opset(model, INT4_OPSET, needed_by=precision)
        made.ir_version = _INT4_IR_VERSION
    write_rows(made, chosen.tables)
    graph, eight = Graph(made), list[str]()
    for node in [node for node in graph.weighted() if node.name in chosen.nodes]:
        if precision == INT4 and _has_blocks(graph, node, options.block_size):
            _dequantize_blocks(graph, node, options.block_size)
        else:
            dequantize_kernel(graph, node, round_kernel(graph, node))
            eight.append(node.name)
    graph.remove_unused()
    del made.graph.value_info[:]
    left = {why: nodes for why, nodes in chosen.left.items() if why != OF_ACTIVATIONS}  # of those, nothing is stored
    return made, (*told_left(left), *(_eight_bits(eight, options.block_size) if precision == INT4 else ()))


def _eight_bits(nodes: Sequence[str], block_size: int) -> tuple[str, ...]:
    what = f"int8 instead of int4, for blocks of {block_size} do not divide them or they are no MatMul"
    return (f"{len(nodes)} kernels are {what}",) if nodes else ()


def _has_blocks(graph: Graph, node: NodeProto, block_size: int) -> bool:
    dims = graph.constants[graph.kernel(node) or ""].dims
    return node.op_type == "MatMul" and len(dims) == 2 and dims[0] % block_size == 0


def _dequantize_blocks(graph: Graph, node: NodeProto, block_size: int) -> None:
    """Feed a product from int4 weights, with a scale for each block of a column."""
    from onnx import TensorProto, helper

    name = graph.kernel(node) or ""
    stored, target = f"{name}_int4", f"{name}_int4_dequantized"
    if target not in graph.producers:
        weights = graph.array(name)
        rows, columns = weights.shape
        blocks = weights.reshape(rows // block_size, block_size, columns)
        scales = np.abs(blocks).max(axis=1, keepdims=True) / _LEVELS
        scales = np.where(scales > 0, scales, 1.0 / _LEVELS).astype(np.float32)  # a block of zeros takes any
        values = np.clip(np.rint(blocks / scales), -_LEVELS, _LEVELS).astype(np.int8).reshape(-1)
        packed = (values[0::2] & 0xF) | (values[1::2] << 4)  # the first of two in the lower half
        graph.model.graph.initializer.append(
            helper.make_tensor(stored, TensorProto.INT4, (rows, columns), packed.astype(np.int8).tobytes(), raw=True)
        )
        dequantize = helper.make_node(
            "DequantizeLinear",
            [stored, constant(graph, f"{stored}_scale", scales[:, 0])],
            [target],
            name=f"{stored}_DequantizeLinear",
            axis=0,
            block_size=block_size,
        )
        graph.model.graph.node.insert(0, dequantize)
        graph.refresh()
    node.input[1] = target

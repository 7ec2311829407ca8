"""TensorRT's rules for explicit quantization: symmetric int8 by QuantizeLinear and DequantizeLinear (Q/DQ)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgekit.tensors import Array
from edgekit_onnx.graphs import QUANTIZERS, kernel_axis
from edgekit_onnx.rules_graph import Broken, Rules
from edgekit_onnx.values import Values, label

if TYPE_CHECKING:
    from onnx import NodeProto

_SYMMETRIC = "quantize activations and weights as symmetric int8, with zero point 0"
_QUANTIZED = ("INT8", "INT4", "FLOAT8E4M3FN", "FLOAT4E2M1")  # what TensorRT computes with, uint8 and int32 apart
_MOVES = (  # what may stand between Q and DQ: it moves values and computes nothing
    "Concat", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip
_SOFTMAXES = ("Softmax", "LogSoftmax")


def _pairs(values: Values) -> list[NodeProto]:
    return list(values.graph.nodes(*QUANTIZERS))


def _scale(values: Values, node: NodeProto) -> Array | None:
    return values.array(node.input[1])


def _point(values: Values, node: NodeProto) -> Array | None:
    return values.array(node.input[2]) if len(node.input) > 2 else None


def _axis(node: NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 1)


def _kind(values: Values, node: NodeProto) -> str:
    """The quantized type of a Q or DQ, in ONNX's words: that of its zero point, or of what it dequantizes."""
    from onnx import TensorProto

    for name in (*node.input[2:3], *(node.input[:1] if _is_dq(node) else ())):
        if name in values.constants:
            return str(TensorProto.DataType.Name(values.constants[name].data_type))
    source = values.graph.producers.get(node.input[0])
    if _is_dq(node) and source is not None and source.op_type == "QuantizeLinear":
        return _kind(values, source)
    given = next((attribute.i for attribute in node.attribute if attribute.name == "output_dtype"), 0)
    if _is_dq(node):
        given = next((it.type.tensor_type.elem_type for it in values.model.graph.input if it.name == node.input[0]), 0)
    return str(TensorProto.DataType.Name(given or TensorProto.UINT8))  # Q without a zero point makes uint8


def _is_dq(node: NodeProto) -> bool:
    return bool(node.op_type == "DequantizeLinear")


def _zero_points(values: Values) -> Iterator[Broken]:
    for node in _pairs(values):
        point = _point(values, node)
        if point is not None and np.any(point.astype(np.int64) != 0):
            shown = int(point.astype(np.int64).flat[int(np.argmax(point.astype(np.int64) != 0))])
            yield Broken(label(node), f"its zero point is {shown}", _SYMMETRIC)


def _uint8(values: Values) -> Iterator[Broken]:
    for node in _pairs(values):
        if _kind(values, node) == "UINT8":
            yield Broken(label(node), "it quantizes to uint8", _SYMMETRIC)


def _int32_bias(values: Values) -> Iterator[Broken]:
    for node in values.graph.nodes("DequantizeLinear"):
        if _kind(values, node) == "INT32":
            yield Broken(label(node), "it dequantizes an int32 bias", "keep biases in float (QuantizeBias=False)")


def _types(values: Values) -> Iterator[Broken]:
    for node in _pairs(values):
        kind = _kind(values, node)
        if kind not in (*_QUANTIZED, "UINT8", "INT32"):
            yield Broken(label(node), f"it quantizes to {kind.lower()}", _SYMMETRIC)


def _scales(values: Values) -> Iterator[Broken]:
    for node in _pairs(values):
        scale = _scale(values, node)
        if scale is None:
            yield Broken(label(node), "its scale is computed", "calibrate, so that the scale is a constant")
        elif not np.all(np.isfinite(scale.astype(np.float64)) & (scale.astype(np.float64) > 0)):
            yield Broken(label(node), "its scale is not above 0 and finite", "calibrate with samples that reach it")


def _activation_channels(values: Values) -> Iterator[Broken]:
    for node in values.graph.nodes("QuantizeLinear"):
        scale = _scale(values, node)
        if scale is not None and scale.size > 1 and values.graph.constant_behind(node.input[0]) is None:
            yield Broken(
                label(node), f"it quantizes an activation with {scale.size} scales", "give activations one scale each"
            )


def _weight_axes(values: Values) -> Iterator[Broken]:
    for node, kernel, shape in values.kernels():
        dequantizer = values.graph.producers.get(node.input[1])
        scale = _scale(values, dequantizer) if dequantizer is not None and _is_dq(dequantizer) else None
        if dequantizer is None or scale is None or scale.size < 2 or not shape:
            continue
        own, wanted = _axis(dequantizer) % len(shape), kernel_axis(node, len(shape))
        if own != wanted:
            problem = f"its kernel '{kernel}' has scales along axis {own}, and output channels along {wanted}"
            yield Broken(label(node), problem, "quantize kernels per output channel")
        elif scale.size != shape[own]:
            problem = f"its kernel '{kernel}' has {scale.size} scales for {shape[own]} output channels"
            yield Broken(label(node), problem, "quantize kernels per output channel")


def _mismatched(values: Values) -> Iterator[Broken]:
    for node in values.graph.nodes("DequantizeLinear"):
        source = values.graph.producers.get(node.input[0])
        if source is None or source.op_type != "QuantizeLinear":
            continue
        for what, of in (("scale", _scale), ("zero point", _point)):
            own, other = of(values, node), of(values, source)
            if (
                own is not None
                and other is not None
                and not np.array_equal(own, other, equal_nan=own.dtype.kind == "f")
            ):
                yield Broken(label(node), f"its {what} is not that of '{label(source)}'", "give both the same")
        scale = _scale(values, node)
        if scale is not None and scale.size > 1 and _axis(node) != _axis(source):
            yield Broken(label(node), f"its axis is not that of '{label(source)}'", "give both the same")


def _unpaired(values: Values) -> Iterator[Broken]:
    for node in values.graph.nodes("QuantizeLinear"):
        for consumer in _beyond_moves(values, node.output[0]):
            if not _is_dq(consumer):
                problem = f"{consumer.op_type} '{label(consumer)}' computes with its integers"
                yield Broken(label(node), problem, "put a DequantizeLinear between them")


def _beyond_moves(values: Values, tensor: str) -> Iterator[NodeProto]:
    waiting, seen = [tensor], {tensor}
    while waiting:
        for consumer in values.graph.consumers(waiting.pop()):
            if consumer.op_type not in _MOVES:
                yield consumer
                continue
            fresh = [name for name in consumer.output if name not in seen]
            seen.update(fresh)
            waiting += fresh


def _softmax(values: Values) -> Iterator[Broken]:
    for node in values.graph.nodes("QuantizeLinear"):
        source = values.graph.producers.get(node.input[0])
        if source is not None and source.op_type in _SOFTMAXES:
            yield Broken(
                label(node), f"it quantizes what {source.op_type} '{label(source)}' gives", "leave it in float"
            )


def _name(kind: int) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(kind))


def _constants(values: Values) -> Iterator[Broken]:
    for node in values.nodes():
        for name in () if _is_dq(node) else node.input:
            kind = values.constants[name].data_type if name in values.constants else None
            if kind is not None and _name(kind) in _QUANTIZED and values.constants[name].dims:
                yield Broken(
                    label(node),
                    f"it reads the {_name(kind)} constant '{name}'",
                    "put a DequantizeLinear right behind the constant, or leave that layer in float",
                )


QUANTIZATION_RULES: Rules = {
    "zero-point": _zero_points,
    "uint8": _uint8,
    "int32-bias": _int32_bias,
    "quantized-type": _types,
    "scale": _scales,
    "per-channel-activation": _activation_channels,
    "per-channel-axis": _weight_axes,
    "mismatched-pair": _mismatched,
    "unpaired": _unpaired,
    "quantized-softmax": _softmax,
    "quantized-constant": _constants,
}

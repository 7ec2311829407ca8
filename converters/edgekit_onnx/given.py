"""An `.onnx` file that the user brings: what it holds already, and which opset its int8 form needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekit.errors import ConversionError
from edgekit_onnx.reading import opset_of

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

SUFFIX = ".onnx"
LEAST_OPSET = 11
INT8_OPSET = 13  # the first whose DequantizeLinear has a scale for each channel

_STATIC = ("QuantizeLinear", "QGemm", "QAttention")
_STATIC_PREFIX = "QLinear"
_WEIGHTS_ALONE = (
    *("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DequantizeLinear"),
    *("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits"),
)
_FLOAT = "fp32"


def is_finished(model: ModelProto, name: str, precision: str) -> bool:
    """Whether a file has `precision` already; False for a float32 file, of which it can be made.

    Raises ConversionError when it has another, for its float32 weights are gone, and for an opset before LEAST_OPSET.
    """
    if opset_of(model) < LEAST_OPSET:
        raise ConversionError(
            f"{name} has opset {opset_of(model)}, expected {LEAST_OPSET} or newer: export it again with "
            "opset_version=17"
        )
    found = precision_of(model)
    if found == _FLOAT:
        return False
    if found == "fp64":
        raise ConversionError(f"{name} computes in float64: export it in float32")
    if found != precision:
        raise ConversionError(
            f"{name} is quantized already ({found}), so its float weights are gone and {precision} cannot be made of "
            "it: give the float file"
        )
    return True


def precision_of(model: ModelProto) -> str:
    """The name that describes a file best; "fp32" for one of float32 weights, or none, and without quantization."""
    from onnx import TensorProto

    types = {node.op_type for node in model.graph.node}
    if types.intersection(_STATIC) or any(name.startswith(_STATIC_PREFIX) for name in types):
        return "int8"
    held = {tensor.data_type for tensor in _constants(model) if tensor.dims}
    if types.intersection(_WEIGHTS_ALONE):
        return "int4-weights" if "MatMulNBits" in types or held & {TensorProto.INT4, TensorProto.UINT4} else (
            "dynamic-int8"
        )  # fmt: skip
    kinds = ((TensorProto.FLOAT16, "fp16"), (TensorProto.BFLOAT16, "bf16"), (TensorProto.DOUBLE, "fp64"))
    return next((name for kind, name in kinds if kind in held), _FLOAT)


def _constants(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        if node.op_type == "Constant":
            yield from (item.t for item in node.attribute if item.name == "value")

"""What is inside a TFLite file: bytes, precision and sparsity per operator, and what stayed in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from edgekit.conversion import Inspection, Layer
from edgekit.tensors import TensorSpec
from edgekit.versions import version_key
from edgekit_tflite.embedding import Embedded, read_embedded
from edgekit_tflite.given import precision_of
from edgekit_tflite.layers import kernel_of
from edgekit_tflite.reading import Role, TFLiteModel, TFLiteOperator, TFLiteTensor, damage_of, read_model
from edgekit_tflite.signatures import signatures_of
from edgekit_tflite.versions import least_runtime, runtime_of

Key = tuple[int, int]

_BORDER = ("QUANTIZE", "DEQUANTIZE")
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def inspect_model(path: Path) -> Inspection:
    """Read one file. A constant's bytes count for the first operator that uses it.

    Raises ConversionError when LiteRT does not open the file, or its metadata is damaged.
    """
    model, embedded = read_model(path), read_embedded(path)
    with damage_of(path):
        return _inspection(path, model, embedded)


def _inspection(path: Path, model: TFLiteModel, embedded: Embedded) -> Inspection:
    keys = _constants(model)
    parameters = {
        keys[tensor.key]: prod(tensor.shape)
        for operator in model.operators
        for tensor in operator.inputs
        if tensor.role is Role.PARAMETER
    }
    return Inspection(
        format="tflite",
        inputs=tuple(TensorSpec(name, tensor.shape, tensor.dtype) for name, tensor in model.inputs.items()),
        outputs=tuple(TensorSpec(name, tensor.shape, tensor.dtype) for name, tensor in model.outputs.items()),
        bytes=path.stat().st_size,
        parameters=sum(parameters.values()),
        layers=_layers(model, keys),
        metadata=embedded.metadata,
        min_runtime_version=_min_runtime(model, embedded),
        precision=precision_of(model),
        signatures=signatures_of(path),
    )


def _min_runtime(model: TFLiteModel, embedded: Embedded) -> str | None:
    """What the operators ask for, or what the file states, if that is more."""
    found = (least_runtime(model.operators), embedded.min_runtime_version)
    return max((version for version in found if version), key=version_key, default=None)


def float_layers(model: TFLiteModel) -> tuple[str, ...]:
    """Operators that compute in float, but for the conversions at the border: "dense/MatMul (FULLY_CONNECTED)"."""
    return tuple(
        f"{_name(operator)} ({operator.type})"
        for operator in model.operators
        if operator.type not in _BORDER and any("float" in tensor.dtype for tensor in operator.outputs)
    )


def float_weights(model: TFLiteModel) -> tuple[str, ...]:
    """Operators whose weights are float: "depthwise/depthwise (DEPTHWISE_CONV_2D)"."""
    return tuple(
        f"{_name(operator)} ({operator.type})"
        for operator in model.operators
        if (kernel := kernel_of(operator)) is not None and "float" in kernel.dtype
    )


def _constants(model: TFLiteModel) -> dict[Key, Key]:
    """Tensor key -> where a constant's bytes are, and the how many-th of its graph it is that has them.

    Graphs of several signatures share their constants, which are counted once.
    """
    found: dict[Key, Key] = {}
    users: Counter[tuple[int, int]] = Counter()
    for operator in model.operators:
        for tensor in operator.inputs:
            if tensor.key not in found and tensor.role is not Role.ACTIVATION:
                place, graph = int(tensor.data.ctypes.data), tensor.key[0]
                found[tensor.key] = (place, users[graph, place])
                users[graph, place] += 1
    return found


def _layers(model: TFLiteModel, keys: Mapping[Key, Key]) -> tuple[Layer, ...]:
    """One layer per operator; a dequantized float16 constant belongs to the operator that uses it."""
    layers: list[Layer] = []
    unpacked: dict[Key, TFLiteTensor] = {}
    counted: set[Key] = set()
    for operator in model.operators:
        stored = [unpacked.get(tensor.key, tensor) for tensor in operator.inputs]
        constants = [tensor for tensor in stored if tensor.role is not Role.ACTIVATION]
        if operator.type == "DEQUANTIZE" and constants:
            unpacked[operator.outputs[0].key] = constants[0]
            continue
        fresh = [tensor for tensor in constants if keys[tensor.key] not in counted]
        layers.append(_layer(operator, constants, sum(tensor.data.nbytes for tensor in fresh)))
        counted.update(keys[tensor.key] for tensor in constants)
    return tuple(layers)


def _layer(operator: TFLiteOperator, constants: list[TFLiteTensor], size: int) -> Layer:
    weights = [tensor for tensor in constants if tensor.role is Role.PARAMETER]
    kernel = max(weights, key=lambda tensor: prod(tensor.shape), default=None)
    shown = kernel or next(iter(operator.outputs), None)
    dtype = shown.dtype if shown else "none"
    return Layer(
        name=_name(operator),
        type=operator.type,
        bytes=size,
        precision=_PRECISIONS.get(dtype, dtype),
        sparsity=_sparsity(kernel) if kernel is not None else None,
        runtime=runtime_of(operator),
    )


def _sparsity(tensor: TFLiteTensor) -> float | None:
    """Fraction of zeros; None for a dtype that numpy lacks (packed int4)."""
    if tensor.dtype not in np.sctypeDict:
        return None
    values = tensor.data.view(tensor.dtype)
    zero = tensor.zero_points[0] if len(set(tensor.zero_points)) == 1 else 0
    return float(np.mean(values == zero))


def _name(operator: TFLiteOperator) -> str:
    """The first of the TensorFlow names that the converter joined with semicolons; some operators give nothing."""
    return operator.outputs[0].name.split(";")[0] if operator.outputs else operator.type

"""Versions of operators, and the oldest runtime that has them.

An operator's version follows from the types of its tensors (LiteRT's tflite/converter/tools/versioning/op_version.cc).
TensorFlow's converter writes it into a file; litert-quantizer changes the types and leaves the versions, so that an old
runtime would take the file and misread it. Here they are written anew.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from edgekit.versions import version_key
from edgekit_tflite.embedding import MIN_RUNTIME_VERSION, entry_places
from edgekit_tflite.flat import Table
from edgekit_tflite.layers import kernel_of
from edgekit_tflite.op_runtimes import RUNTIMES, UNKNOWN
from edgekit_tflite.reading import Role, TFLiteOperator, mapped, read_opened

Change = tuple[int, bytes]  # a place in the file, and what is to stand there

_OPERATOR_CODES = 1  # field of the model
_CODE_VERSION = 2  # field of an operator code; absent when it is 1
STORED_VERSION = 2  # the least that a file has a number for, which `state_versions` can change afterwards

_ALIKE = (  # version by type, of these operators
    ({"int8": 2}, "ARG_MAX ARG_MIN DEPTH_TO_SPACE GELU GREATER L2_NORMALIZATION LESS_EQUAL LOG_SOFTMAX NOT_EQUAL"),
    ({"int8": 2}, "SPACE_TO_DEPTH SPLIT_V SQUARED_DIFFERENCE STRIDED_SLICE SUM"),
    ({"int8": 3}, "REVERSE_V2 TILE"),
    ({"int8": 2, "int16": 2}, "EXP FLOOR_MOD LOG REDUCE_PROD"),
    ({"int8": 2, "int16": 3}, "ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION GREATER_EQUAL LESS LOGISTIC"),
    ({"int8": 2, "int16": 3}, "MAX_POOL_2D MEAN MIRROR_PAD PACK PAD PADV2 REDUCE_MAX REDUCE_MIN RELU RELU6 RSQRT"),
    ({"int8": 2, "int16": 3}, "SOFTMAX TANH TOPK_V2 TRANSPOSE_CONV"),
    ({"int8": 2, "int16": 4}, "BATCH_TO_SPACE_ND EQUAL GATHER MAXIMUM MINIMUM MUL RESIZE_BILINEAR SLICE"),
    ({"int8": 2, "int16": 4}, "RESIZE_NEAREST_NEIGHBOR SPACE_TO_BATCH_ND SPLIT UNPACK"),
    ({"int8": 2, "int16": 5}, "SUB TRANSPOSE"),
    ({"int8": 3, "int16": 3}, "BROADCAST_TO FILL FLOOR_DIV"),
)
_OTHER: Mapping[str, Mapping[str, int]] = {  # operator -> type, or types of activation and kernel -> version
    "CONV_2D": {"int8": 3, "int16": 4, "float32 int8": 5, "float32 int4": 7, "int8 int4": 7},
    "DEPTHWISE_CONV_2D": {"int8": 3, "int16": 5, "float32 int8": 6, "float32 int4": 7, "int8 int4": 7},
    "DEQUANTIZE": {"int8": 2, "int16": 3, "float16": 3, "int4": 6},
    "DYNAMIC_UPDATE_SLICE": {"int16": 4},
    "EMBEDDING_LOOKUP": {"int32 int8": 4, "int32 int4": 4},
    "FULLY_CONNECTED": {
        "int8": 4, "int16": 7, "float32 int8": 12, "float32 int4": 12, "int8 int4": 10, "int16 int4": 13,
    },
    "GATHER_ND": {"int16": 3},
    "LEAKY_RELU": {"int16": 2},
    "QUANTIZE": {"int16": 2},
}  # fmt: skip
_BY_TYPE: Mapping[str, Mapping[str, int]] = {
    **{name: versions for versions, names in _ALIKE for name in names.split()},
    **_OTHER,
}


def version_of(operator: TFLiteOperator) -> int:
    """What the types of its tensors ask for, or what the file states, if that is more."""
    known, kernel = _BY_TYPE.get(operator.type, {}), kernel_of(operator)
    kind = _type(operator)
    forms = [kind] if kernel is None else [f"{kind} {kernel.dtype}", kind]
    return max(operator.version, next((known[form] for form in forms if form in known), 1))


def runtime_of(operator: TFLiteOperator) -> str | None:
    """The release of TensorFlow whose runtime is the first to have the operator; None for one that is not listed."""
    releases, version = RUNTIMES.get(operator.type, "").split(), version_of(operator)
    release = releases[version - 1] if version <= len(releases) else UNKNOWN
    return None if release == UNKNOWN else release


def least_runtime(operators: Iterable[TFLiteOperator]) -> str | None:
    """The first release that has all of them, as far as they are listed."""
    found = (runtime_of(operator) for operator in operators)
    return max((release for release in found if release is not None), key=version_key, default=None)


def state_versions(path: Path, original: Iterable[TFLiteOperator]) -> None:
    """Write the operators' versions and the least runtime into a file that was quantized from the `original` ones.

    Only numbers that the file has already are changed: the version of an operator code that is 1 by default is left.
    """
    stated = {operator.code: operator.version for operator in original}
    operators = [replace(each, version=stated.get(each.code, 1)) for each in read_opened(path).operators]
    changes = [*_code_changes(path, operators), *_runtime_change(path, operators)]
    with path.open("r+b") as stream:  # large files are not copied
        for place, new in changes:
            stream.seek(place)
            stream.write(new)


def _code_changes(path: Path, operators: Iterable[TFLiteOperator]) -> Iterator[Change]:
    codes = Table.root(mapped(path)).tables(_OPERATOR_CODES)
    for number, version in _needed(operators).items():
        place = codes[number].at(_CODE_VERSION)
        if place is not None:
            yield place, struct.pack("<i", version)


def _runtime_change(path: Path, operators: Iterable[TFLiteOperator]) -> Iterator[Change]:
    found, runtime = entry_places(mapped(path), where=path.name).get(MIN_RUNTIME_VERSION), least_runtime(operators)
    if found is not None and runtime is not None:
        size = found.stop - found.start
        yield found.start, runtime.encode().ljust(size, b"\0")[:size]


def _needed(operators: Iterable[TFLiteOperator]) -> dict[int, int]:
    """Operator code -> the version that all operators of that code can do with."""
    needed: dict[int, int] = {}
    for operator in operators:
        needed[operator.code] = max(needed.get(operator.code, 1), version_of(operator))
    return needed


def _type(operator: TFLiteOperator) -> str:
    """Of what goes in; of what comes out where the operator's task is to change it."""
    if operator.type == "QUANTIZE":
        return operator.outputs[0].dtype
    activations = (tensor for tensor in operator.inputs if tensor.role is Role.ACTIVATION)
    first = next(chain(activations, operator.inputs), None)
    return "" if first is None else first.dtype

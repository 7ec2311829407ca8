"""KServe's Open Inference Protocol v2 over REST, with Triton's binary tensor data.

Sources: kserve/open-inference-protocol, specification/protocol/inference_rest.md; triton-inference-server/server,
docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any  # Any: parsed JSON

import numpy as np

from edgekit.errors import DataError, EngineError, did_you_mean
from edgekit.strict import parse
from edgekit.tensors import Array, TensorSpec, format_shape

EXTENSIONS = ("binary_tensor_data",)
JSON_LENGTH = "Inference-Header-Content-Length"  # of the part of a body before its binary tensors

_DATATYPES = {
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
_DTYPES = {datatype: np.dtype(dtype).newbyteorder("<") for dtype, datatype in _DATATYPES.items()}
_FITS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}  # kind of the datatype -> kinds of JSON data that it takes


@dataclass(frozen=True)
class RequestInput:
    """$request_input. `preprocess`, a parameter of our own, says that the data are raw pixels or samples."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RequestOutput:
    """$request_output."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """$inference_request."""

    inputs: tuple[RequestInput, ...]
    outputs: tuple[RequestOutput, ...] = ()
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    model_name: str | None = None  # Triton's examples have it; the address names the model

    @property
    def inputs_to_preprocess(self) -> frozenset[str]:
        """Names of inputs that are raw pixels or samples."""
        return frozenset(item.name for item in self.inputs if item.parameters.get("preprocess") is True)


def read_request(body: memoryview, json_length: str | None) -> tuple[Request, dict[str, Array]]:
    """A body, and what its header `JSON_LENGTH` says, as the request and its arrays by input name.

    Arrays of binary data share the memory of the body where it is aligned. Raises DataError.
    """
    length = len(body) if json_length is None else _json_length(json_length, len(body))
    try:
        parsed = json.loads(bytes(body[:length]))
    except (ValueError, RecursionError) as problem:
        raise DataError(f"the request is not JSON: {problem}") from problem
    request = parse(Request, parsed, where="request", error=DataError)
    arrays: dict[str, Array] = {}
    binary = body[length:]
    for item in request.inputs:
        if item.name in arrays:
            raise DataError(f"input '{item.name}' is given twice")
        size = item.parameters.get("binary_data_size")
        if size is None:
            arrays[item.name] = _from_json(item)
        else:
            arrays[item.name], binary = _from_binary(item, size, binary)
    if len(binary):
        raise DataError(f"{len(binary)} bytes follow the last binary tensor, expected none")
    return request, arrays


def write_response(
    request: Request, outputs: Mapping[str, Array], *, model: str, version: str
) -> tuple[bytes, dict[str, str]]:
    """The body and its headers. Raises DataError on an unknown output, EngineError on what JSON cannot say."""
    wanted = request.outputs or tuple(map(RequestOutput, outputs))
    described, blobs = [], []
    for item in wanted:
        if item.name not in outputs:
            raise DataError(f"unknown output '{item.name}'{did_you_mean(item.name, outputs)}")
        array = outputs[item.name]
        entry: dict[str, Any] = {"name": item.name, "datatype": datatype_of(array.dtype), "shape": list(array.shape)}
        if item.parameters.get("binary_data", request.parameters.get("binary_data_output", False)):
            blobs.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = array.ravel().tolist()
        described.append(entry)
    head = {"model_name": model, "model_version": version, "outputs": described}
    if request.id is not None:
        head["id"] = request.id
    try:
        content = json.dumps(head, allow_nan=False).encode()
    except ValueError as problem:
        raise EngineError("an output holds NaN or infinity, which JSON cannot say: ask for binary_data") from problem
    if not blobs:
        return content, {"Content-Type": "application/json"}
    return b"".join([content, *blobs]), {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(content))}


def datatype_of(dtype: np.dtype[Any] | str) -> str:
    """The protocol's word for a numpy dtype: FP32."""
    return _DATATYPES[np.dtype(dtype).name]


def described(specs: Sequence[TensorSpec]) -> list[dict[str, object]]:
    """$metadata_tensor of each; an open size is -1."""
    return [
        {
            "name": spec.name,
            "datatype": datatype_of(spec.dtype),
            "shape": [-1 if size is None else size for size in spec.shape],
        }
        for spec in specs
    ]


def _json_length(words: str, body: int) -> int:
    if not (words.isascii() and words.isdecimal()) or int(words) > body:
        raise DataError(f"{JSON_LENGTH} is '{words}', expected a number up to the {body} bytes of the body")
    return int(words)


def _dtype(item: RequestInput) -> np.dtype[Any]:
    if item.datatype not in _DTYPES:
        raise DataError(f"input '{item.name}' has datatype '{item.datatype}'{did_you_mean(item.datatype, _DTYPES)}")
    if any(size < 0 for size in item.shape):
        raise DataError(f"input '{item.name}' has shape {format_shape(item.shape)}, expected sizes from 0 on")
    return _DTYPES[item.datatype]


def _from_json(item: RequestInput) -> Array:
    """Data may be flat or nested."""
    dtype = _dtype(item)
    if not isinstance(item.data, list):
        raise DataError(f"input '{item.name}' has no data: expected a list, or binary data with binary_data_size")
    try:
        given = np.asarray(item.data)
    except (ValueError, OverflowError) as problem:
        raise DataError(f"input '{item.name}': its data is no array: {problem}") from problem
    if dtype.kind in "iu" and given.dtype.kind in "fO" and _whole(exact := np.asarray(item.data, object)):
        given = exact  # numpy makes floats of integers beyond int64, when there are smaller ones beside them
    elif given.size and given.dtype.kind not in _FITS[dtype.kind]:
        raise DataError(f"input '{item.name}': its data is not of {item.datatype}")
    expected = math.prod(item.shape)
    if given.size != expected:
        raise DataError(
            f"input '{item.name}' has {given.size} numbers, its shape {format_shape(item.shape)} takes {expected}"
        )
    if given.size and dtype.kind in "iu" and not _holds(dtype, given):
        raise DataError(f"input '{item.name}': its data is beyond {item.datatype}")
    return given.astype(dtype).reshape(item.shape)


def _whole(given: Array) -> bool:
    return all(type(number) is int for number in given.flat)


def _holds(dtype: np.dtype[Any], given: Array) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= int(given.min()) and int(given.max()) <= limits.max


def _from_binary(item: RequestInput, size: object, binary: memoryview) -> tuple[Array, memoryview]:
    dtype, where = _dtype(item), f"input '{item.name}'"
    if item.data is not None:
        raise DataError(f"{where} has both data and binary_data_size: leave one out")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary):
        raise DataError(f"{where}: binary_data_size is {size!r}, the body has {len(binary)} bytes for it")
    expected = dtype.itemsize * math.prod(item.shape)
    if size != expected:
        raise DataError(
            f"{where}: binary_data_size is {size}, {item.datatype} {format_shape(item.shape)} takes {expected}"
        )
    array = np.frombuffer(binary[:size], dtype).reshape(item.shape)
    return np.require(array, requirements="A"), binary[size:]  # engines take aligned numbers

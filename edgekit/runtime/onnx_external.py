"""Whether an ONNX file asks for weights from other files, found in its bytes: no package of ONNX is on a device.

ONNX Runtime, given bytes, looks for such weights below the current directory and, through `..`, anywhere. What a bundle
holds is verified; what lies beside the process is not. Field numbers are those of onnx.proto3; the wire format is
https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgekit.errors import EngineError

_LOCATION = b"location"  # ONNX Runtime finds no file without this key
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TENSOR = "tensor"
_INSIDE: Mapping[str, Mapping[int, str]] = {  # message -> field that leads to tensors -> message there
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {},
}
_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14  # fields of a tensor
_MOST_VARINT_BITS = 70


def check_no_external_data(content: bytes) -> None:
    """Raise EngineError where a tensor of the ONNX file `content` is in another file, or the bytes are no protobuf."""
    if _LOCATION not in content:
        return
    view = memoryview(content)
    waiting = [("model", 0, len(content))]
    try:
        while waiting:
            kind, start, end = waiting.pop()
            if kind == _TENSOR:
                _check_tensor(view, start, end)
            for field, _, first, last in _fields(view, start, end):
                if field in _INSIDE[kind]:
                    waiting.append((_INSIDE[kind][field], first, last))
    except (IndexError, ValueError) as problem:
        raise EngineError(f"the ONNX file is damaged: {problem}; convert the model again") from problem


def _check_tensor(view: memoryview, start: int, end: int) -> None:
    """A message may come in pieces that are merged: any one of the two fields is enough."""
    fields = list(_fields(view, start, end))
    if any(field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value) for field, value, _, _ in fields):
        names = [bytes(view[first:last]) for field, _, first, last in fields if field == _NAME]
        name = names[-1].decode(errors="replace") if names else "?"
        raise EngineError(
            f"weight {name!r} is in another file, which nothing verifies: give an ONNX file that holds its weights, as "
            "edgekit convert writes it below 2 GB"
        )


def _fields(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field, number, first byte, byte after the last) of one message; `number` is 0 for bytes, and the bytes none for
    a number."""
    at = start
    while at < end:
        key, at = _varint(view, at)
        kind, number, first = key & 7, 0, at
        if kind == _VARINT:
            number, at = _varint(view, at)
            first = at
        elif kind == _BYTES:
            size, first = _varint(view, at)
            at = first + size
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at > end:
            raise ValueError(f"a field at byte {first} reaches beyond its message")
        yield key >> 3, number, first, at


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """(value, the byte after it)."""
    value = 0
    for bits in range(0, _MOST_VARINT_BITS, 7):
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << bits
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number at byte {at} is too long")

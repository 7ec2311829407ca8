"""A TFLite file written from the schema's objects, without a copy of its weights in memory.

Large constants stand behind the rest of the FlatBuffer, where their buffers point. That is what the format allows: a
reference may lead to any place that lies behind it ("FlatBuffers internals", flatbuffers.dev).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO  # Any: the generated schema's objects, which have no types

import numpy as np

from edgekit.errors import ConversionError
from edgekit.tensors import Array
from edgekit_tflite.flat import WORD, Table

_IDENTIFIER = b"TFL3"
_BUFFERS, _DATA = 4, 0  # fields of a model, and of a buffer
_ALIGNMENT = 16  # of Buffer.data in the schema
_LARGE = 1 << 16  # bytes of a constant that is not packed with the rest
_MOST = (1 << 31) - 1  # bytes of a FlatBuffer

Constants = Mapping[int, Callable[[], Array]]  # number of a buffer -> what reads its values


def packed(model: Any) -> bytes:
    """A model as a file."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def write_model(model: Any, path: Path, constants: Constants | None = None) -> None:
    """Write a model, and the values of `constants` into their buffers; one is in memory at a time.

    The model's large buffers become empty. Raises ConversionError for more than a FlatBuffer holds.
    """
    large = {number: _reader(buffer.data) for number, buffer in enumerate(model.buffers) if _is_large(buffer)}
    large |= constants or {}
    for number in large:
        model.buffers[number].data = np.zeros(1, np.uint8)
    head = packed(model)
    fields = [buffer.at(_DATA) for buffer in Table.root(head).tables(_BUFFERS)]
    with path.open("wb") as stream:
        stream.write(head)
        for number, read in large.items():
            field = fields[number]
            assert field is not None  # its buffer holds a byte
            _append(stream, field, read(), path)


def _is_large(buffer: Any) -> bool:
    return buffer.data is not None and len(buffer.data) >= _LARGE


def _reader(values: Array) -> Callable[[], Array]:
    return lambda: values


def _append(stream: BinaryIO, field: int, values: Array, path: Path) -> None:
    """Write a vector at the end of the file, and where it begins into the field that refers to it."""
    start = -(-(stream.tell() + WORD) // _ALIGNMENT) * _ALIGNMENT
    if start + values.nbytes > _MOST:
        raise ConversionError(
            f"{path.name} would have more than {_MOST:,} bytes, which a FlatBuffer cannot: bring a model of fewer or "
            "smaller layers"
        )
    stream.write(bytes(start - WORD - stream.tell()) + struct.pack("<I", values.nbytes))
    np.ascontiguousarray(values).tofile(stream)
    stream.seek(field)
    stream.write(struct.pack("<I", start - WORD - field))
    stream.seek(0, 2)

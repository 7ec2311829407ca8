"""Metadata in a TFLite file: one more buffer that the model names, and associated files as a zip at the end.

The file that was converted stays as it is, byte for byte: a new root table with longer lists of buffers and of
metadata goes before it and points into it. Only positions that count from the start of the file (constants outside of
the FlatBuffer) are moved on. Sources: tensorflow/lite/schema/schema.fbs, and "Pack metadata and associated files into
the model" of TensorFlow Lite's guide to metadata.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: flatbuffers' Builder, which has no types

from edgekit.errors import ConversionError
from edgekit.files import UNREADABLE_ZIP
from edgekit.metadata import ModelMetadata
from edgekit_tflite.flat import Field, Reference, Table, UInt, write_references, write_table
from edgekit_tflite.metadata import from_flatbuffer, label_files, to_flatbuffer
from edgekit_tflite.reading import damage_of, mapped

METADATA = "TFLITE_METADATA"
MIN_RUNTIME_VERSION = "min_runtime_version"

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 64  # of the converted file inside the new one; the schema asks for 16 for constants
_INSIDE = 1  # a Buffer.offset of 0 or 1 means that the constant is inside the FlatBuffer
_LARGEST_FILE = 1 << 24  # of an associated file that is read back
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # equal inputs give equal files


class _Model:
    VERSION, CODES, SUBGRAPHS, DESCRIPTION, BUFFERS, METADATA_BUFFER, METADATA = range(7)
    KNOWN = 10  # fields of a model in today's schema; all but VERSION are references


class _Buffer:
    DATA, OFFSET, SIZE = range(3)


class _Entry:  # a row of Model.metadata
    NAME, BUFFER = range(2)


_GRAPH_OPERATORS = 3
_OPERATOR_LARGE_OPTIONS_OFFSET = 9


@dataclass(frozen=True)
class Embedded:
    """What a file says of itself."""

    metadata: ModelMetadata | None
    min_runtime_version: str | None  # of TensorFlow, as its converter computed it for the operators ("2.3.0")


def embed(content: bytes, metadata: ModelMetadata, *, where: str) -> bytes:
    """A TFLite file with metadata, whose tensors must be in the order of the file's inputs and outputs.

    Raises ConversionError when the file is damaged, has metadata already, or has a newer layout than this knows.
    """
    with damage_of(where):
        return _embedded(content, metadata, where)


def _embedded(content: bytes, metadata: ModelMetadata, where: str) -> bytes:
    model = Table.root(content)
    if model.fields > _Model.KNOWN:
        raise ConversionError(
            f"{where}: its model table has {model.fields} fields, expected at most {_Model.KNOWN}: "
            "leave out [metadata], or install a newer edgekit"
        )
    if METADATA in _entries(content, where=where):
        raise ConversionError(f"{where} has metadata already: leave out [metadata]")
    head = _head(model, METADATA, to_flatbuffer(metadata))
    return _with_files(head + _moved(content, len(head)), label_files(metadata))


def keep_files(path: Path, given: Path) -> None:
    """Give a file made from `given` its associated files: quantization keeps metadata and drops the zip behind it.

    Raises ConversionError when they cannot be read.
    """
    described = METADATA in _entries(mapped(given), where=str(given))
    if not described or not zipfile.is_zipfile(given) or zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(given) as archive:
            names = archive.namelist()
    except UNREADABLE_ZIP as problem:
        raise ConversionError(f"{given}: its associated files cannot be read ({problem})") from problem
    path.write_bytes(_with_files(path.read_bytes(), {name: _associated(given, name) for name in names}))


def read_embedded(path: Path) -> Embedded:
    """What a file that LiteRT opens says of itself. Raises ConversionError on damaged metadata."""
    entries = _entries(mapped(path), where=str(path))
    found, version = entries.get(METADATA), entries.get(MIN_RUNTIME_VERSION)
    return Embedded(
        None if found is None else from_flatbuffer(found, lambda name: _associated(path, name), where=path),
        None if version is None else version.rstrip(b"\0").decode(errors="replace"),
    )


def entry_places(content: bytes | memoryview, *, where: str) -> dict[str, slice]:
    """Name -> place of what Model.metadata lists. LiteRT's verifier does not look at the numbers of its buffers.

    Raises ConversionError on a damaged file.
    """
    with damage_of(f"{where}: its list of metadata"):
        model = Table.root(content)
        buffers = model.tables(_Model.BUFFERS)
        rows = {row.text(_Entry.NAME) or "": row.number(_Entry.BUFFER) for row in model.tables(_Model.METADATA)}
        return {name: _place(buffers[number]) for name, number in rows.items()}


def _entries(content: bytes | memoryview, *, where: str) -> dict[str, bytes]:
    return {name: bytes(content[place]) for name, place in entry_places(content, where=where).items()}


def _place(buffer: Table) -> slice:
    offset = buffer.number(_Buffer.OFFSET, "Uint64")
    if offset > _INSIDE:
        return slice(offset, offset + buffer.number(_Buffer.SIZE, "Uint64"))
    return buffer.place(_Buffer.DATA)


def _head(model: Table, name: str, content: bytes) -> bytes:
    """A new root table, to be put right before the file of `model`, which it points into."""
    import flatbuffers

    builder = flatbuffers.Builder(len(content) + 1024)
    builder.Prep(_ALIGNMENT, 0)  # the whole head is a multiple of this
    old = model.tables(_Model.BUFFERS)
    buffers = [*(-buffer.position for buffer in old), _buffer(builder, content)]
    entry = write_table(builder, {_Entry.NAME: name, _Entry.BUFFER: UInt(len(old))})
    rows = [*(-row.position for row in model.tables(_Model.METADATA)), entry]
    kept = {number: model.target(number) for number in range(1, model.fields)}
    fields: dict[int, Field | None] = {
        number: Reference(-target) for number, target in kept.items() if target is not None
    }
    fields[_Model.VERSION] = UInt(model.number(_Model.VERSION))
    fields[_Model.BUFFERS] = Reference(write_references(builder, buffers))
    fields[_Model.METADATA] = Reference(write_references(builder, rows))
    builder.Finish(write_table(builder, fields), _IDENTIFIER)
    return bytes(builder.Output())


def _buffer(builder: Any, content: bytes) -> int:
    builder.Prep(16, len(content))  # Buffer.data is declared with force_align: 16
    return write_table(builder, {_Buffer.DATA: Reference(builder.CreateByteVector(content))})


def _moved(content: bytes, distance: int) -> bytes:
    """The file with its positions that count from the start moved on."""
    moved = bytearray(content)
    for place in _absolute(Table.root(content)):
        (offset,) = struct.unpack_from("<Q", content, place)
        if offset > _INSIDE:
            struct.pack_into("<Q", moved, place, offset + distance)
    return bytes(moved)


def _absolute(model: Table) -> Iterator[int]:
    """Where the positions stand of constants and options that lie behind the FlatBuffer."""
    found = [buffer.at(_Buffer.OFFSET) for buffer in model.tables(_Model.BUFFERS)]
    for graph in model.tables(_Model.SUBGRAPHS):
        found += [operator.at(_OPERATOR_LARGE_OPTIONS_OFFSET) for operator in graph.tables(_GRAPH_OPERATORS)]
    return (place for place in found if place is not None)


def _with_files(model: bytes, files: Mapping[str, bytes]) -> bytes:
    """The file with a zip behind it, stored, since Android reads the entries where they lie."""
    if not files:
        return model
    stream = io.BytesIO()
    stream.write(model)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), content)
    return stream.getvalue()


def _associated(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except UNREADABLE_ZIP as problem:
        raise ConversionError(f"{path}: its metadata names '{name}', which cannot be read ({problem})") from problem
    if len(content) > _LARGEST_FILE:
        raise ConversionError(f"{path}: '{name}' is larger than {_LARGEST_FILE:,} bytes")
    return content

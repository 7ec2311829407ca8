"""The weights that an ONNX file keeps in files beside it: found, checked, and only then read.

A file names them by a path and a position. Everything is looked at through descriptors that follow no link, before a
byte is read: paths that leave the folder, links, and positions beyond the end are refused.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: protocol buffers of any message

from edgekit.errors import ConversionError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

_NOTHING = 0
_STRING, _MESSAGE = 9, 11  # TYPE_STRING and TYPE_MESSAGE of a FieldDescriptor
_PACKED_BITS = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}
_DRIVE = re.compile(r"[A-Za-z]:")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe must not stop us


@dataclass(frozen=True)
class _Place:
    """Where a tensor's bytes are."""

    descriptor: int
    offset: int
    length: int


def bring_in(model: ModelProto, path: Path, *, most_bytes: int | None = None) -> int:
    """Check every tensor, then put the bytes that lie in other files into the model; returns how many.

    With `most_bytes`, larger tensors stay outside. Raises ConversionError before anything is read when a tensor has an
    unknown type or other bytes than its shape says, or lies where it must not.
    """
    return read_outside(model, path, _bring_in, most_bytes=most_bytes)


def check_outside(model: ModelProto, path: Path) -> int:
    """The checks of `bring_in` alone; returns the bytes that lie in other files."""
    return read_outside(model, path, None)


def read_outside(
    model: ModelProto, path: Path, take: Callable[[TensorProto, bytes], object] | None, *, most_bytes: int | None = None
) -> int:
    """The checks of `bring_in`, then `take(tensor, its bytes)` for each that lies in another file; the bytes of all."""
    with ExitStack() as opened:
        descriptors: dict[str, int] = {}
        places = [
            (tensor, _place(tensor, size, path, descriptors, opened))
            for tensor, size in [(tensor, _bytes_of(tensor, path)) for tensor in tensors(model, path)]
            if is_outside(tensor)
        ]
        chosen = [found for found in places if most_bytes is None or found[1].length <= most_bytes]
        if take is not None:
            for tensor, place in chosen:
                take(tensor, _read(place, path))
        return sum(place.length for _, place in chosen)


def is_outside(tensor: TensorProto) -> bool:
    """Whether a tensor's bytes lie in another file."""
    from onnx import TensorProto

    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _bring_in(tensor: TensorProto, content: bytes) -> None:
    from onnx import TensorProto

    tensor.raw_data = content
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.DEFAULT


def tensors(message: Any, path: Path) -> Iterator[TensorProto]:
    """Every tensor, wherever in the file it stands: in bodies of loops, functions, attributes.

    Raises ConversionError for a name that is no text, which protocol buffers let through as bytes.
    """
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        yield message
    for field, value in message.ListFields():
        if field.type not in (_STRING, _MESSAGE):
            continue
        single = isinstance(value, str | bytes) or hasattr(value, "ListFields")
        for inner in [value] if single else value:
            if field.type == _MESSAGE:
                yield from tensors(inner, path)
            elif isinstance(inner, bytes) and field.name != "doc_string":
                raise ConversionError(f"{path}: not an ONNX model (its {field.name} {inner[:40]!r} is no UTF-8 text)")


def _bytes_of(tensor: TensorProto, path: Path) -> int:
    """What the shape and the type take; a tensor that keeps them inside must have as many."""
    from onnx import TensorProto, helper

    if tensor.data_type == TensorProto.STRING and tensor.data_location != TensorProto.EXTERNAL:
        return _NOTHING
    kind = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else None
    if kind in (None, "UNDEFINED", "STRING") or any(size < 0 for size in tensor.dims):
        raise ConversionError(
            f"{path}: tensor '{tensor.name}' has the type {kind or tensor.data_type} and the shape "
            f"{tuple(tensor.dims)}, which no weights have; export it again"
        )
    bits = _PACKED_BITS.get(kind or "") or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    size: int = (prod(tensor.dims) * bits + 7) // 8
    if tensor.HasField("raw_data") and tensor.data_location != TensorProto.EXTERNAL and len(tensor.raw_data) != size:
        raise ConversionError(
            f"{path}: tensor '{tensor.name}' has {len(tensor.raw_data):,} bytes, and its shape {tuple(tensor.dims)} "
            f"takes {size:,}; export it again"
        )
    return size


def _place(tensor: TensorProto, size: int, path: Path, descriptors: dict[str, int], opened: ExitStack) -> _Place:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, where = entries.get("location", ""), f"{path}: the weights of '{tensor.name}'"
    if location not in descriptors:
        descriptors[location] = _open_beside(path, location, where, opened)
    offset, length = _number(entries, "offset", 0, where), _number(entries, "length", size, where)
    there = os.fstat(descriptors[location]).st_size
    if length != size:
        raise ConversionError(f"{where} have {length:,} bytes in '{location}', and their shape takes {size:,}")
    if offset + length > there:
        raise ConversionError(
            f"{where} end at byte {offset + length:,} of '{location}', which has {there:,}: it was cut short or "
            "belongs to another model; copy both files again"
        )
    return _Place(descriptors[location], offset, length)


def _number(entries: dict[str, str], key: str, default: int, where: str) -> int:
    word = entries.get(key, str(default))
    if not (word.isascii() and word.isdecimal()) or len(word) > len(str(1 << 63)):
        raise ConversionError(f"{where} have the {key} {word[:40]!r}, expected a whole number")
    return int(word)


def _open_beside(path: Path, location: str, where: str, opened: ExitStack) -> int:
    """A descriptor of a plain file in the folder of `path`, or below it, that nothing else links to."""
    parts = location.split("/")
    if "\\" in location or _DRIVE.match(location) or "\0" in location or any(part in ("", ".", "..") for part in parts):
        raise ConversionError(
            f"{where} are in {location!r}, which leaves the model's folder: weights lie beside the .onnx file; save it "
            "again with its data in one folder"
        )
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    opened.callback(os.close, folder)
    for part in parts[:-1]:
        folder = _open(part, _FLAGS | os.O_DIRECTORY, folder, location, where)
        opened.callback(os.close, folder)
    descriptor = _open(parts[-1], _FLAGS, folder, location, where)
    opened.callback(os.close, descriptor)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ConversionError(f"{where} are in '{location}', which is no plain file")
    if found.st_nlink != 1:
        raise ConversionError(
            f"{where} are in '{location}', which {found.st_nlink} hard links lead to, so that it may be a file of "
            "another folder: copy it, and give the copy its name"
        )
    return descriptor


def _open(name: str, flags: int, folder: int, location: str, where: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as problem:
        if _is_link(name, folder):
            raise ConversionError(
                f"{where} are in '{location}', and '{name}' is a symbolic link: put the file itself beside the .onnx"
            ) from problem
        raise ConversionError(
            f"{where} are in '{location}', which cannot be opened ({problem.strerror}): it belongs beside the .onnx"
        ) from problem


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except (OSError, ValueError):
        return False


def _read(place: _Place, path: Path) -> bytes:
    parts, at, end = [], place.offset, place.offset + place.length
    while at < end:
        part = os.pread(place.descriptor, end - at, at)
        if not part:
            raise ConversionError(f"{path}: the weights beside it changed while they were read; copy both files again")
        parts.append(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)

"""TFLite files that tests read by the numbers of their fields, with the package flatbuffers alone."""

from __future__ import annotations

import struct
from typing import Any

import flatbuffers
from flatbuffers.table import Table

WORD = 4
MODEL_BUFFERS, MODEL_METADATA = 4, 6


def root(content: bytes) -> Any:
    return Table(content, struct.unpack_from("<I", content)[0])


def child(table: Any, number: int) -> Any:
    """The table that field `number` points at."""
    offset = table.Offset(WORD + 2 * number)
    return Table(table.Bytes, table.Indirect(table.Pos + offset)) if offset else None


def children(table: Any, number: int) -> list[Any]:
    """The tables of a vector."""
    offset = table.Offset(WORD + 2 * number)
    if not offset:
        return []
    start = table.Vector(offset)
    return [Table(table.Bytes, table.Indirect(start + WORD * n)) for n in range(table.VectorLen(offset))]


def text(table: Any, number: int) -> str | None:
    offset = table.Offset(WORD + 2 * number)
    return table.String(table.Pos + offset).decode() if offset else None


def number(table: Any, field: int, kind: Any = flatbuffers.number_types.Uint32Flags) -> int:
    offset = table.Offset(WORD + 2 * field)
    return int(table.Get(kind, table.Pos + offset)) if offset else 0


def floats(table: Any, field: int) -> list[float]:
    offset = table.Offset(WORD + 2 * field)
    return list(struct.unpack_from(f"<{table.VectorLen(offset)}f", table.Bytes, table.Vector(offset)))


def octets(table: Any, field: int) -> tuple[int, bytes]:
    """Where a vector of bytes stands in the file, and what it holds."""
    offset = table.Offset(WORD + 2 * field)
    if not offset:
        return 0, b""
    start = table.Vector(offset)
    return start, bytes(table.Bytes[start : start + table.VectorLen(offset)])


def buffers(content: bytes) -> list[tuple[int, bytes]]:
    return [octets(buffer, 0) for buffer in children(root(content), MODEL_BUFFERS)]


def metadata_rows(content: bytes) -> dict[str | None, bytes]:
    """Name -> content of what Model.metadata lists."""
    stored = buffers(content)
    return {text(row, 0): stored[number(row, 1)][1] for row in children(root(content), MODEL_METADATA)}

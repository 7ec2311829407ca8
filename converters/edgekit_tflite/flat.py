"""FlatBuffer tables by the numbers of their fields, for schemas that no installed package has generated code for.

The wire format is FlatBuffers' own ("FlatBuffers internals", flatbuffers.dev): a table's fields are numbered in the
order of the schema, a union takes two numbers (its type, then its value), and a reference points forward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias  # Any: the packages flatbuffers' Builder and Table, which have no types

import numpy as np

WORD = 4  # bytes of a reference, of a vector's length


@dataclass(frozen=True)
class Byte:
    """A field of type byte, ubyte or an enumeration of them."""

    value: int


@dataclass(frozen=True)
class UInt:
    """A field of type uint."""

    value: int


@dataclass(frozen=True)
class Reference:
    """Something written already, by its offset in the Builder: the distance of its start from the end."""

    offset: int


Field: TypeAlias = "str | Byte | UInt | Reference | Sequence[float] | Sequence[Field] | Fields"
Fields: TypeAlias = "Mapping[int, Field | None]"  # a table: number of the field -> value; None is absent


def write_table(builder: Any, fields: Fields) -> int:
    """Write a table with everything in it, children first; gives its offset."""
    children = {
        number: value if isinstance(value, Byte | UInt) else Reference(_write(builder, value))
        for number, value in fields.items()
        if value is not None
    }
    builder.StartObject(max(fields, default=-1) + 1)
    for number, child in children.items():
        if isinstance(child, Byte):
            builder.PrependByteSlot(number, child.value, 0)
        elif isinstance(child, UInt):
            builder.PrependUint32Slot(number, child.value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, child.offset, 0)
    return int(builder.EndObject())


def write_references(builder: Any, offsets: Sequence[int]) -> int:
    """Write a vector of references; gives its offset."""
    builder.StartVector(WORD, len(offsets), WORD)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _write(builder: Any, value: Any) -> int:  # Any: a Field, or an item of one
    """Write a string, a table, or a vector of float32 or of these; gives its offset."""
    if isinstance(value, Reference):
        return value.offset
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, Mapping):
        return write_table(builder, value)
    if value and all(isinstance(item, float) for item in value):
        return int(builder.CreateNumpyVector(np.asarray(value, np.float32)))
    return write_references(builder, [_write(builder, item) for item in value])


@dataclass(frozen=True)
class Table:
    """A table of a FlatBuffer in memory. Reading outside of `content` raises struct.error, IndexError or ValueError."""

    content: bytes | bytearray | memoryview
    position: int

    @classmethod
    def root(cls, content: bytes | bytearray | memoryview) -> Table:
        """The root table."""
        return cls(content, cls(content, 0)._table.Indirect(0))

    def at(self, number: int) -> int | None:
        """Where the field stands; None when it is absent."""
        offset = self._table.Offset(WORD + 2 * number)
        return self.position + offset if offset else None

    @property
    def fields(self) -> int:
        """How many fields the table's layout has room for."""
        vtable = self.position - self._table.Get(_types().SOffsetTFlags, self.position)
        return int(self._table.Get(_types().VOffsetTFlags, vtable)) // 2 - 2

    def number(self, number: int, kind: str = "Uint32") -> int:
        """An integer field; `kind` names it as flatbuffers does ("Uint8"). 0 when it is absent."""
        place = self.at(number)
        return 0 if place is None else int(self._table.Get(getattr(_types(), f"{kind}Flags"), place))

    def target(self, number: int) -> int | None:
        """Where a reference leads."""
        place = self.at(number)
        return None if place is None else int(self._table.Indirect(place))

    def table(self, number: int) -> Table | None:
        """A field that is a table."""
        target = self.target(number)
        return None if target is None else Table(self.content, target)

    def tables(self, number: int) -> list[Table]:
        """A field that is a vector of tables; [] when it is absent."""
        start, count = self._vector(number)
        return [Table(self.content, self._table.Indirect(start + WORD * index)) for index in range(count)]

    def floats(self, number: int) -> tuple[float, ...] | None:
        """A vector of float32; None when it is absent."""
        if self.at(number) is None:
            return None
        start, count = self._vector(number)
        return tuple(np.frombuffer(self.content, "<f4", count, start).tolist())

    def place(self, number: int) -> slice:
        """Where a vector of bytes lies in the content."""
        start, count = self._vector(number)
        return slice(start, start + count)

    def stored(self, number: int) -> bytes:
        """A vector of bytes, copied."""
        return bytes(self.content[self.place(number)])

    def text(self, number: int) -> str | None:
        """A string. Raises UnicodeDecodeError, which is a ValueError."""
        return None if self.at(number) is None else self.stored(number).decode()

    def texts(self, number: int) -> tuple[str, ...] | None:
        """A vector of strings; None when it is absent."""
        if self.at(number) is None:
            return None
        start, count = self._vector(number)
        places = [int(self._table.Indirect(start + WORD * index)) for index in range(count)]
        return tuple(self._string(place).decode() for place in places)

    def _string(self, place: int) -> bytes:
        start = place + WORD
        return bytes(self.content[start : start + self._table.Get(_types().UOffsetTFlags, place)])

    def _vector(self, number: int) -> tuple[int, int]:
        """Where the first element stands, and how many there are."""
        target = self.target(number)
        return (0, 0) if target is None else (target + WORD, self._table.Get(_types().UOffsetTFlags, target))

    @property
    def _table(self) -> Any:
        from flatbuffers.table import Table as Raw

        return Raw(self.content, self.position)


def _types() -> Any:
    from flatbuffers import number_types

    return number_types

"""Protocol Buffers' text format, as far as `config.pbtxt` needs it.

Source: protobuf.dev/reference/protobuf/textformat-spec.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

_INDENT = "  "


@dataclass(frozen=True)
class Enumerator:
    """A value of an enum, written without quotes: KIND_GPU."""

    name: str


Fields = Sequence[tuple[str, "Value"]]
Value = Union[str, int, bool, Enumerator, "Message", tuple[int, ...]]


@dataclass(frozen=True)
class Message:
    """The fields of a message in the order they are written; a repeated field of messages comes several times."""

    fields: Fields = ()


def to_text(message: Message) -> str:
    """The text of a whole file: one field a line, numbers that repeat in brackets."""
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Message) -> list[str]:
    lines = []
    for name, value in message.fields:
        if isinstance(value, Message):
            lines += [f"{name} {{", *(_INDENT + line for line in _lines(value)), "}"]
        else:
            lines.append(f"{name}: {_scalar(value)}")
    return lines


def _scalar(value: str | int | bool | Enumerator | tuple[int, ...]) -> str:
    if isinstance(value, Enumerator):
        return value.name
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{"".join(map(_escaped, value.encode()))}"'
    if isinstance(value, tuple):
        return f"[ {', '.join(map(str, value))} ]" if value else "[ ]"
    return str(value)


def _escaped(byte: int) -> str:
    """Printable ASCII stands for itself; other bytes of the UTF-8 form in octal, which every reader takes."""
    character = chr(byte)
    if character in '"\\':
        return "\\" + character
    return character if 0x20 <= byte < 0x7F else f"\\{byte:03o}"

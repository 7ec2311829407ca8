"""Values as the text of a TOML file, which the standard library only reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def toml_text(table: Mapping[str, object]) -> str:
    """A whole file. Mappings become tables down to the second level, lists of mappings arrays of tables."""
    return "\n".join(_table(table, ())).strip("\n") + "\n"


def toml_value(value: object) -> str:
    """One value in one line; TOML writes strings, numbers and truth as JSON does, and has no null."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_key(str(key))} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if not isinstance(value, str | int | float):
        raise TypeError(f"TOML has no form for {value!r}")
    return json.dumps(value, ensure_ascii=False)


def toml_key(key: str) -> str:
    """A key, in quotes where it needs them."""
    return key if key and _BARE.issuperset(key) else json.dumps(key, ensure_ascii=False)


def _table(table: Mapping[str, object], path: tuple[str, ...]) -> Iterator[str]:
    inner = {key: value for key, value in table.items() if _is_own(value) and len(path) < 2}
    yield from (f"{toml_key(key)} = {toml_value(value)}" for key, value in table.items() if key not in inner)
    for key, value in inner.items():
        name = ".".join(map(toml_key, (*path, key)))
        if isinstance(value, Mapping):
            yield f"\n[{name}]"
            yield from _table(value, (*path, key))
            continue
        assert isinstance(value, list | tuple)  # _is_own saw to it
        for item in value:
            yield f"\n[[{name}]]"
            yield from (f"{toml_key(field)} = {toml_value(inside)}" for field, inside in item.items())


def _is_own(value: object) -> bool:
    """Whether a value gets a table of its own."""
    many = isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping) or many

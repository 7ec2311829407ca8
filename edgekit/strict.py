"""Mappings from TOML and JSON become frozen dataclasses here, strictly: no unknown key, no wrong type.

Part of the device side, where the manifest is read: standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints  # Any: parsed JSON and TOML

from edgekit.errors import ConfigError, EdgekitError, did_you_mean

T = TypeVar("T")


def parse(cls: type[T], mapping: object, *, where: str, error: type[EdgekitError] = ConfigError) -> T:
    """Build dataclass `cls` from a parsed TOML table or JSON object.

    `where` names the file for messages: `pi5.toml: unknown key 'memroy_mib' in [limits]; did you mean 'memory_mib'?`
    Raises `error` on an unknown key, a missing key, or a value of the wrong type.
    """
    parsed: T = _Parser(where, error).table(cls, mapping, "")
    return parsed


def canonical_json(content: object) -> bytes:
    """Sorted keys, no spaces, UTF-8, newline at the end: equal content gives equal bytes."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


@dataclasses.dataclass(frozen=True)
class _Parser:
    where: str
    error: type[EdgekitError]

    def table(self, cls: type[Any], mapping: object, path: str) -> Any:
        if not isinstance(mapping, Mapping):
            raise self._wrong(path or "the top level", mapping, "a table")
        hints = _hints(typing.cast(Hashable, cls))
        fields = {field.name: field for field in dataclasses.fields(cls)}
        self._check_keys(mapping, fields, path)
        values = {key: self.value(hints[key], value, _join(path, key)) for key, value in mapping.items()}
        try:
            return cls(**values)
        except ConfigError as problem:  # a dataclass may check its own values
            raise self.error(f"{self.where}: {problem}") from problem

    def value(self, kind: Any, value: object, path: str) -> Any:
        origin = get_origin(kind)
        if kind is Any or kind is object:
            return value
        if origin in (Union, types.UnionType):
            return self._union(get_args(kind), value, path)
        if origin is typing.Literal:
            return self._literal(get_args(kind), value, path)
        if origin is tuple:
            return self._tuple(get_args(kind), value, path)
        if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
            return self._mapping(get_args(kind)[1], value, path)
        if dataclasses.is_dataclass(kind):
            return self.table(typing.cast(type, kind), value, path)
        return self._scalar(kind, value, path)

    def _check_keys(self, mapping: Mapping[str, object], fields: Mapping[str, Any], path: str) -> None:
        place = f" in [{path}]" if path else ""
        for key in mapping:
            if key not in fields:
                raise self.error(f"{self.where}: unknown key '{key}'{place}{did_you_mean(key, fields)}")
        for name, field in fields.items():
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and name not in mapping:
                raise self.error(f"{self.where}: missing key '{name}'{place}")

    def _union(self, kinds: tuple[Any, ...], value: object, path: str) -> Any:
        if value is None and type(None) in kinds:
            return None
        if isinstance(value, str) and str in kinds:
            return value
        return self.value(next(kind for kind in kinds if kind is not type(None)), value, path)

    def _literal(self, allowed: tuple[Any, ...], value: object, path: str) -> object:
        if value not in allowed:
            raise self.error(f"{self.where}: {path} is '{value}'{did_you_mean(str(value), map(str, allowed))}")
        return value

    def _tuple(self, kinds: tuple[Any, ...], value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            tables = isinstance(value, Mapping) and dataclasses.is_dataclass(kinds[0])
            raise self._wrong(path, value, f"a list of tables; write [[{path}]]" if tables else "a list")
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return tuple(self.value(kinds[0], item, f"{path}[{index}]") for index, item in enumerate(value))
        if len(value) != len(kinds):
            raise self._wrong(path, value, f"a list of {len(kinds)}")
        return tuple(self.value(kind, item, path) for kind, item in zip(kinds, value, strict=True))

    def _mapping(self, kind: Any, value: object, path: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise self._wrong(path, value, "a table")
        return {str(key): self.value(kind, item, _join(path, str(key))) for key, item in value.items()}

    def _scalar(self, kind: type[Any], value: object, path: str) -> Any:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind is Path and isinstance(value, str):
            return Path(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._wrong(path, value, _NAMES.get(kind, kind.__name__))
        return value

    def _wrong(self, path: str, value: object, expected: str) -> EdgekitError:
        return self.error(f"{self.where}: {path} is {value!r}, expected {expected}")


_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key

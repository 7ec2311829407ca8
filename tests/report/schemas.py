"""The JSON Schema of report.json, from the dataclasses that are written into it.

`python -m tests.report.schemas > edgekit/report/report.schema.json` after a change of theirs.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgekit.report.facts import FORMAT, FORMAT_VERSION, BuildReport

SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema() -> dict[str, Any]:
    """Strict: no key beside those that are known; keys with a default may be missing."""
    definitions: dict[str, Any] = {}
    made = _table(BuildReport, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"report.json, format version {FORMAT_VERSION}",
        **made,
        "properties": {
            "format": {"const": FORMAT}, "format_version": {"const": FORMAT_VERSION}, **made["properties"],
        },
        "required": ["format", "format_version", *made["required"]],
        "$defs": dict(sorted(definitions.items())),
    }  # fmt: skip


def _table(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints, fields = get_type_hints(cls), dataclasses.fields(cls)
    needed = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    return {
        "description": str(cls.__doc__).splitlines()[0],
        "type": "object",
        "properties": {field.name: _value(hints[field.name], definitions) for field in fields},
        "required": needed,
        "additionalProperties": False,
    }


def _value(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is object:
        return {}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_value(part, definitions) for part in inner if part is not type(None)] + [{"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _value(inner[0], definitions)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _value(inner[1], definitions)}
    if dataclasses.is_dataclass(kind):
        definitions.setdefault(kind.__name__, {})
        definitions[kind.__name__] = _table(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    return {"type": SCALARS[kind]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=1) + "\n")

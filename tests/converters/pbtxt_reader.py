"""A strict reader of config.pbtxt for tests: the part of Triton's ModelConfig that edgekit writes, and nothing else.

Fields and kinds are those of triton-inference-server/common, protobuf/model_config.proto.
"""

from __future__ import annotations

import re
from typing import Any

TYPES = {"TYPE_BOOL", *(f"TYPE_{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))} | {
    f"TYPE_FP{bits}" for bits in (16, 32, 64)
}
KINDS = {"KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"}
# A list is a repeated field, a set an enum, a dict a message; "map" stands for a map with such values.
TENSOR = {"name": str, "data_type": TYPES, "dims": [int], "reshape": {"shape": [int]}}
SCHEMA = {
    "name": str,
    "platform": str,
    "backend": str,
    "max_batch_size": int,
    "input": [TENSOR],
    "output": [{**TENSOR, "label_filename": str}],
    "version_policy": {"latest": {"num_versions": int}, "all": {}, "specific": {"versions": [int]}},
    "dynamic_batching": {"preferred_batch_size": [int], "max_queue_delay_microseconds": int},
    "instance_group": [{"count": int, "kind": KINDS, "gpus": [int]}],
    "optimization": {
        "execution_accelerators": {"gpu_execution_accelerator": [{"name": str, "parameters": ("map", str)}]}
    },
    "ensemble_scheduling": {
        "step": [{"model_name": str, "model_version": int, "input_map": ("map", str), "output_map": ("map", str)}]
    },
    "model_warmup": [
        {
            "name": str,
            "batch_size": int,
            "inputs": ("map", {"data_type": TYPES, "dims": [int], "input_data_file": str}),
        }
    ],
}
_TOKEN = re.compile(r'\s*(?:#[^\n]*\n\s*)*([A-Za-z_]\w*|-?\d+|"(?:[^"\\\n]|\\.)*"|[{}\[\]:,]|$)')


def read_config(text: str) -> dict[str, Any]:
    """The fields by name; maps as dicts. AssertionError on whatever the schema does not have."""
    tokens, position = [], 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        assert found, f"no token at {text[position : position + 20]!r}"
        tokens.append(found[1])
        position = max(found.end(), position + 1)
    reader = _Reader([token for token in tokens if token])
    message = reader.message(SCHEMA, None)
    assert not reader.tokens
    return message


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def message(self, schema: dict[str, Any], end: str | None) -> dict[str, Any]:
        read: dict[str, Any] = {}
        while self.tokens and self.tokens[0] != end:
            name = self.tokens.pop(0)
            assert name in schema, f"unknown field {name}"
            self._field(schema[name], name, read)
        if end is not None:
            assert self.tokens.pop(0) == end
        return read

    def _field(self, kind: Any, name: str, read: dict[str, Any]) -> None:
        if isinstance(kind, tuple):
            entry = self._value({"key": str, "value": kind[1]})
            assert set(entry) == {"key", "value"}
            assert entry["key"] not in read.setdefault(name, {})
            read[name][entry["key"]] = entry["value"]
        elif isinstance(kind, list):
            read.setdefault(name, []).extend(self._values(kind[0]))
        else:
            assert name not in read, f"{name} twice"
            read[name] = self._value(kind)

    def _values(self, kind: Any) -> list[Any]:
        if isinstance(kind, dict) or self.tokens[1] != "[":
            return [self._value(kind)]
        assert [self.tokens.pop(0), self.tokens.pop(0)] == [":", "["]
        values = []
        while self.tokens[0] != "]":
            values.append(self._scalar(kind))
            assert self.tokens[0] in ("]", ",")
            if self.tokens[0] == ",":
                self.tokens.pop(0)
                assert self.tokens[0] != "]"
        self.tokens.pop(0)
        return values

    def _value(self, kind: Any) -> Any:
        if isinstance(kind, dict):
            assert self.tokens.pop(0) == "{"
            return self.message(kind, "}")
        assert self.tokens.pop(0) == ":"
        return self._scalar(kind)

    def _scalar(self, kind: Any) -> Any:
        word = self.tokens.pop(0)
        if isinstance(kind, set):
            assert word in kind, f"{word} is none of {kind}"
            return word
        if kind is int:
            return int(word)
        assert word[0] == word[-1] == '"'
        octal = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), word[1:-1])
        return re.sub(r'\\(["\\])', r"\1", octal).encode("latin-1").decode()

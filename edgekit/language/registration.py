"""Edgekit's own Keras layers, made known to Keras where a file names them."""

from __future__ import annotations

import json

_MARK = '"edgekit>'  # before the class in a serialized layer's registered name


def register_layers(config: object) -> None:
    """Register them if a serialized model, as JSON, has one."""
    if _MARK in json.dumps(config):
        import edgekit.language.layers  # noqa: F401  # registers

"""Per-layer settings by name patterns: which step each layer gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import TypeVar

from edgekit.compression.checks import SKIP
from edgekit.compression.steps import Cluster, Factorize, Prune, PruneChannels, QuantizeAware, QuantizeWeights
from edgekit.errors import ConfigError, did_you_mean
from edgekit.strict import parse

S = TypeVar("S", Prune, PruneChannels, Cluster, Factorize, QuantizeAware, QuantizeWeights)


def select(step: S, names: Iterable[str]) -> dict[str, S | None]:
    """Layer name -> the step with that layer's settings, or None where the layer is to be skipped.

    `names` are the layers that the step could work on; a part of a composite layer is named `layer/part`, and a pattern
    that matches the layer matches its parts. Patterns are the shell's (`block_*`); the last one that matches counts.
    Raises ConfigError on a pattern that matches none of them, and on settings that the step refuses.
    """
    known = list(names)
    for pattern in step.layers:
        if not any(_matches(name, pattern) for name in known):
            raise ConfigError(f"{_where(step, pattern)} matches no layer of this step{did_you_mean(pattern, known)}")
    return {name: _settled(step, name) for name in known}


def _settled(step: S, name: str) -> S | None:
    matching = [pattern for pattern in step.layers if _matches(name, pattern)]
    if not matching:
        return step
    settings = step.layers[matching[-1]]
    if settings == SKIP:
        return None
    assert isinstance(settings, Mapping)  # the step saw to it
    own = {field.name: getattr(step, field.name) for field in fields(step) if field.name != "layers"}
    return parse(type(step), {**own, **_replaced(step, settings), **settings}, where=_where(step, matching[-1]))


def _replaced(step: S, settings: Mapping[str, object]) -> dict[str, None]:
    """The step's settings that a layer's own stand in for: a layer's rank replaces the step's energy."""
    alternatives = step.ALTERNATIVES if any(name in step.ALTERNATIVES for name in settings) else ()
    if ":" in str(settings.get("pattern", "")):
        alternatives = ("sparsity",)
    return dict.fromkeys(alternatives)


def _matches(name: str, pattern: str) -> bool:
    parts = name.split("/")
    return any(fnmatchcase("/".join(parts[:count]), pattern) for count in range(1, len(parts) + 1))


def _where(step: S, pattern: str) -> str:
    return f"{type(step).__name__}.layers['{pattern}']"

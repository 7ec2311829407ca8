"""Per-layer settings by name patterns: which step each layer gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import Any, TypeVar  # Any: a keras.Model

from edgekit.compression.checks import SKIP
from edgekit.compression.kernels import Kernel, kernels, unknown_tables
from edgekit.compression.steps import (
    Cluster,
    Factorize,
    Prune,
    PruneChannels,
    QuantizeAware,
    QuantizeWeights,
    step_name,
)
from edgekit.errors import ConfigError, ModelError, did_you_mean
from edgekit.loading import Note
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


def select_kernels(
    step: S, model: Any, unfit: Callable[[Kernel, S], str | None]
) -> tuple[list[tuple[Kernel, S]], list[Note]]:
    """The kernels that a step works on, each with its own settings, and a note on each that it leaves as it is.

    `unfit` says why a kernel cannot be worked on, or None. Kernels that the user skips are not noted. Raises
    ConfigError as `select` does, ModelError when no kernel is left.
    """
    name = step_name(step)
    able: list[Kernel] = kernels(model)
    frozen: list[Kernel] = kernels(model, frozen=True)
    settled = select(step, dict.fromkeys(kernel.name for kernel in (*able, *frozen)))
    chosen: list[tuple[Kernel, S]] = []
    notes = [Note(name, kernel.name, "frozen: its layer does not train") for kernel in frozen]
    for kernel in able:
        own = settled[kernel.name]
        reason = None if own is None else unfit(kernel, own)
        if reason is not None:
            notes.append(Note(name, kernel.name, reason))
        elif own is not None:
            chosen.append((kernel, own))
    for layer, weight, shape in unknown_tables(model):
        notes.append(Note(name, layer, f"its weight '{weight}' of shape {shape} is no kernel that this step knows"))
    if not chosen:
        why = f" ({notes[0].layer}: {notes[0].text})" if notes else ""
        raise ModelError(f"step '{name}' finds no kernel in '{model.name}' to work on{why}; leave the step out")
    return chosen, notes


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
    if settings.get("scheme") in ("ternary", "binary"):
        alternatives = ("bits",)
    return dict.fromkeys(alternatives)


def _matches(name: str, pattern: str) -> bool:
    parts = name.split("/")
    return any(fnmatchcase("/".join(parts[:count]), pattern) for count in range(1, len(parts) + 1))


def _where(step: S, pattern: str) -> str:
    return f"{type(step).__name__}.layers['{pattern}']"

"""`needs(...)`, `latency`, `real_device`, `soak`: what a device must be for a test to mean anything on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any  # Any: what a marker was given

import pytest

from edgekit.errors import did_you_mean

if TYPE_CHECKING:
    from edgekit.devices.traits import Traits

DECLARED = (
    'needs(engine="litert", accelerator="gpu", machine="aarch64", memory_mib=512, storage_mib=100): '
    "edgekit: what the device must have",
    "latency: edgekit: its figures are times, so that it skips on a device that is emulated",
    "real_device: edgekit: skips on this machine and on virtual boards",
    "faults: edgekit: kills and starves programs on the device, and sees what is left",
    "soak: edgekit: runs for the minutes of --edgekit-soak, and skips without",
)
ADMITTED = "edgekit_admitted"

Lack = Callable[["Traits", Any], "str | None"]


def _one_of(kind: str, have: Callable[[Traits], tuple[str, ...]]) -> Lack:
    def lack(traits: Traits, wanted: Any) -> str | None:
        there = have(traits)
        return None if wanted in there else f"{kind} '{wanted}' (it has: {', '.join(there) or 'none'})"

    return lack


def _at_least(kind: str, have: Callable[[Traits], int | None]) -> Lack:
    def lack(traits: Traits, wanted: Any) -> str | None:
        there = have(traits)
        if there is None:
            return f"{wanted} MiB of {kind}, which it does not say"
        return None if there >= wanted else f"{wanted} MiB of {kind} (it has {there})"

    return lack


_NEEDS: Mapping[str, Lack] = {
    "engine": _one_of("engine", lambda traits: traits.engines),
    "accelerator": _one_of("accelerator", lambda traits: traits.accelerators),
    "machine": _one_of("a machine", lambda traits: (traits.machine,)),
    "memory_mib": _at_least("memory", lambda traits: traits.memory_mib),
    "storage_mib": _at_least("free storage", lambda traits: traits.storage_mib),
}


def is_marked(item: pytest.Item) -> bool:
    """Whether the device's traits decide about a test."""
    return any(item.get_closest_marker(name) is not None for name in ("needs", "latency", "real_device"))


def check_markers(item: pytest.Item) -> None:
    """Raise UsageError on a need that there is not."""
    for marker in item.iter_markers("needs"):
        unknown = next((name for name in marker.kwargs if name not in _NEEDS), None)
        if marker.args or unknown is not None:
            word = unknown or str(marker.args[0])
            raise pytest.UsageError(f"{item.nodeid}: needs() has no '{word}'{did_you_mean(word, _NEEDS)}; write NAME=…")


def why_skip(node: pytest.Item, traits: Traits) -> str | None:
    """Why a test says nothing on a device with these traits, or None."""
    if node.get_closest_marker("real_device") is not None and traits.simulated is not None:
        return f"needs a real device: {traits.simulated}"
    if node.get_closest_marker("latency") is not None and traits.emulated is not None:
        return f"its times would say nothing: {traits.emulated}"
    for marker in node.iter_markers("needs"):
        for name, wanted in marker.kwargs.items():
            lack = _NEEDS[name](traits, wanted)
            if lack is not None:
                return f"the device lacks {lack}"
    return None

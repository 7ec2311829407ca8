"""Where a model's time, memory and energy go, as far as the engine and the machine say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: one event of an engine's JSON

import numpy as np

from edgekit.errors import EngineError
from edgekit.runtime.energy import Energy, measure_energy
from edgekit.runtime.memory import peak_rss_bytes
from edgekit.runtime.timing import Timing

_PROCESS = Path("/proc/self")
_PEAK_ANEW = "5"  # proc(5): clear_refs


@dataclass(frozen=True)
class OperatorTime:
    """One operator of the file, or what the engine made of several."""

    name: str
    type: str
    runs: int
    median_ms: float
    share: float  # of the sum of all medians
    place: str  # "CPUExecutionProvider"


@dataclass(frozen=True)
class Profile:
    """What one session takes. Operators are timed in runs of their own, which the timing costs."""

    timing: Timing
    operators: tuple[OperatorTime, ...]  # the slowest first
    no_operators: str | None  # why there are none
    peak_rss_bytes: int | None  # of this process during the runs
    energy: Energy | None  # of all runs; None without a meter that may be read


def measured(run: Callable[[], Timing]) -> tuple[Timing, int | None, Energy | None]:
    """Do the runs; the peak of this process' memory meanwhile, and the energy."""
    found: list[Timing] = []
    with suppress(OSError):
        (_PROCESS / "clear_refs").write_text(_PEAK_ANEW)
    energy = measure_energy(lambda: found.append(run()))
    return found[0], peak_rss_bytes(), energy


def operator_times(samples: Iterable[tuple[str, str, str, float]]) -> tuple[OperatorTime, ...]:
    """From (name, type, place, milliseconds) of every run of every operator."""
    grouped: dict[tuple[str, str, str], list[float]] = {}
    for name, kind, place, elapsed_ms in samples:
        grouped.setdefault((name, kind, place), []).append(elapsed_ms)
    medians = {key: float(np.median(times)) for key, times in grouped.items()}
    total = sum(medians.values()) or 1.0
    slowest = sorted(medians, key=lambda key: -medians[key])
    return tuple(
        OperatorTime(key[0], key[1], len(grouped[key]), round(medians[key], 6), round(medians[key] / total, 6), key[2])
        for key in slowest
    )


def read_onnx_profile(path: Path, *, skip: int) -> tuple[OperatorTime, ...]:
    """ONNX Runtime's own profile; the first `skip` runs are warm-up. Raises EngineError on another form."""
    try:
        events = json.loads(path.read_bytes())
        nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
        return operator_times(_after(skip, nodes))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as problem:
        raise EngineError(f"ONNX Runtime's profile cannot be read: {problem!r}") from problem


def _after(skip: int, events: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str, str, float]]:
    seen: dict[str, int] = {}
    for event in events:
        name, facts = event["name"].removesuffix("_kernel_time"), event["args"]
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > skip:
            yield name, facts["op_name"], facts.get("provider", ""), event["dur"] / 1e3

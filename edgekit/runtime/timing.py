"""Measured latency: perf_counter_ns, warm-up stated, every sample kept, several calls interleaved in blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np

from edgekit.errors import ConfigError

DEFAULT_WARMUP = 20
DEFAULT_RUNS = 200
BLOCK_RUNS = 20

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """What one call took. Milliseconds; percentiles are linear between samples."""

    warmup: int  # untimed calls before the first sample
    runs: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    samples_ms: tuple[float, ...]  # in the order they were taken


def check_counts(runs: int, warmup: int, block: int = 1) -> None:
    """Raise ConfigError on a count out of range."""
    if runs < 1 or warmup < 0 or block < 1:
        raise ConfigError(f"runs is {runs}, warmup {warmup}, block {block}; expected at least 1, 0 and 1")


def measure(
    calls: Mapping[str, Call],
    *,
    warmup: int = DEFAULT_WARMUP,
    runs: int = DEFAULT_RUNS,
    block: int = BLOCK_RUNS,
) -> dict[str, Timing]:
    """Time each call `runs` times, round-robin in blocks, so that drift of the machine hits all alike.

    Where several calls take turns, each block begins with one untimed call, since the call before it emptied the
    caches. Raises ConfigError on a count out of range.
    """
    check_counts(runs, warmup, block)
    samples_ns: dict[str, list[int]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(warmup):
            call()
    for done in range(0, runs, block):
        for name, call in calls.items():
            if len(calls) > 1:
                call()
            samples_ns[name] += _time(call, min(block, runs - done))
    return {name: summarize(samples, warmup=warmup) for name, samples in samples_ns.items()}


def summarize(samples_ns: list[int], *, warmup: int) -> Timing:
    """Median and percentiles of samples in nanoseconds."""
    samples_ms = np.asarray(samples_ns, np.float64) / 1e6
    median, p90, p99 = (round(float(value), 6) for value in np.percentile(samples_ms, (50, 90, 99)))
    return Timing(warmup, len(samples_ns), median, p90, p99, tuple(samples_ms.tolist()))


def _time(call: Call, runs: int) -> list[int]:
    samples = []
    for _ in range(runs):
        start = perf_counter_ns()
        call()
        samples.append(perf_counter_ns() - start)
    return samples

"""Measured stages of runs on a GPU, with the names of trtexec. Most devices have none, so sessions load this late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np

from edgekit.runtime.timing import check_counts


@dataclass(frozen=True)
class StageTimes:
    """One run on a GPU. Milliseconds; all but `enqueue_ms`, which the host's clock took, lie between CUDA events."""

    h2d_ms: float  # inputs from pinned memory to the GPU
    compute_ms: float
    d2h_ms: float
    enqueue_ms: float  # the host's part of starting the computation
    cuda_graph: bool  # whether one launched it


@dataclass(frozen=True)
class Spread:
    """What a stage took in many runs. Milliseconds; percentiles are linear between samples."""

    min_ms: float
    median_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Stages:
    """Where time goes on a GPU, with the names of trtexec; runs come one after the other, never side by side."""

    warmup: int
    runs: int
    throughput_per_s: float  # runs in a second of the host's clock
    latency: Spread  # h2d, compute and d2h together
    enqueue: Spread
    h2d: Spread
    compute: Spread
    d2h: Spread
    cuda_graph: bool  # in every timed run


def measure_stages(run: Callable[[], StageTimes], *, warmup: int, runs: int) -> Stages:
    """Time the stages of `run`. Raises ConfigError on a count out of range."""
    check_counts(runs, warmup)
    for _ in range(warmup):
        run()
    start = perf_counter_ns()
    times = [run() for _ in range(runs)]
    seconds = (perf_counter_ns() - start) / 1e9
    return Stages(
        warmup=warmup,
        runs=runs,
        throughput_per_s=round(runs / seconds, 3),
        latency=_spread([item.h2d_ms + item.compute_ms + item.d2h_ms for item in times]),
        enqueue=_spread([item.enqueue_ms for item in times]),
        h2d=_spread([item.h2d_ms for item in times]),
        compute=_spread([item.compute_ms for item in times]),
        d2h=_spread([item.d2h_ms for item in times]),
        cuda_graph=all(item.cuda_graph for item in times),
    )


def _spread(samples_ms: list[float]) -> Spread:
    return Spread(*(round(float(value), 6) for value in np.percentile(samples_ms, (0, 50, 90, 95, 99, 100))))

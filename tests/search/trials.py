"""Trials that were never run, for the parts of a search that only compare them."""

from __future__ import annotations

from typing import Any

from edgekit.budgets import Budget
from edgekit.search.figures import FULL, Figures, Limits

LIMITS = Limits(Budget(max_metric_drop=0.01, max_bytes=1000))


def trial(number: int, drop: float = 0.0, size: int = 500, ratio: float = 1.0, **others: Any) -> Figures:
    values: dict[str, Any] = {
        "rung": FULL, "params": {"precision": "int8"}, "key": f"key-{number}", "metric": 0.98 - drop,
        "packed_bytes": size // 2, "parameters": size, "median_ms": ratio, "p90_ms": 1.1 * ratio, "p99_ms": 1.2 * ratio,
        "peak_rss_bytes": None, "seconds": 1.0,
    }  # fmt: skip
    return Figures(number=number, metric_drop=drop, bytes=size, latency_ratio=ratio, **{**values, **others})

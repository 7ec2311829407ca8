"""A bundle on a device whose times are made up, and a bundle that is slower because its model is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.manifest import Manifest
from edgekit.runtime.choosing import Choice
from edgekit.runtime.survey import Benched, BenchReply
from edgekit.runtime.timing import summarize
from tests.tiny_models import manifest_of, parts

VARIANT = "tflite-int8"


class MadeUp:
    """As DeployedBundle: every `bench` is a process with an offset of its own."""

    def __init__(self, median_ms: float, *, spread: float = 0.0, seed: int = 0, version: str = "1.0.0") -> None:
        self.manifest: Manifest = manifest_of((parts()[1].variant(),), b"")
        self.median_ms, self.spread = median_ms, spread
        self.best = VARIANT
        self.calls: list[dict[str, Any]] = []
        self.before: Callable[[], object] = lambda: None
        self._draw = np.random.default_rng(seed)

    def bench(self, variant: str | None = None, *, warmup: int = 0, runs: int = 1, threads: int = 1) -> BenchReply:
        self.before()
        self.calls.append({"variant": variant, "warmup": warmup, "runs": runs, "threads": threads})
        middle = self.median_ms * float(np.exp(self.spread * self._draw.standard_normal()))
        samples_ns = [int(1e6 * middle * (1 + 0.01 * self._draw.random())) for _ in range(runs)]
        chosen = variant or self.best
        choice = Choice(chosen, "litert", "ai-edge-litert", "2.1.6", "cpu (XNNPACK)", threads, "asked for")
        return BenchReply((Benched(choice, summarize(samples_ns, warmup=warmup)),), ())

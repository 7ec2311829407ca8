"""Builders that build nothing: they write what they were given, and count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit.tensorrt.recipe import Recipe


@dataclass(frozen=True)
class FakeReport:
    package: str = "tensorrt"
    version: str = "10.3.0.30"
    build_s: float = 1.5
    notes: tuple[str, ...] = ()


class FakeBuilder:
    """Writes `content`, or raises `problem`."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.problem: Exception | None = None
        self.models: list[bytes] = []
        self.timing_caches: list[Path | None] = []

    @property
    def builds(self) -> int:
        return len(self.models)

    def __call__(
        self,
        model: Path,
        recipe: Recipe,
        output: Path,
        *,
        timeout_s: float,
        progress: Callable[[float], object] | None = None,
        timing_cache: Path | None = None,
    ) -> FakeReport:
        self.models.append(model.read_bytes())
        self.timing_caches.append(timing_cache)
        if self.problem is not None:
            raise self.problem
        output.write_bytes(self.content)
        return FakeReport()

"""Which variant runs here, and why not the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgekit.manifest import Variant
from edgekit.runtime.engines import ENGINES

# Fastest first on the CPUs that were measured. The last three are smaller than they are fast.
_PRECISIONS = ("int8", "int8-float-io", "fp16", "fp32", "dynamic-int8", "int4-weights", "int16x8")


@dataclass(frozen=True)
class Rejected:
    """A variant that was not chosen."""

    variant: str
    reason: str


@dataclass(frozen=True)
class Choice:
    """What a session runs, and why."""

    variant: str
    engine: str  # "litert"
    package: str  # "ai-edge-litert"
    engine_version: str
    accelerator: str  # what really runs it, as far as it can be known: "cpu (XNNPACK)"
    threads: int
    reason: str
    rejected: tuple[Rejected, ...] = ()


def ranked(variants: Iterable[Variant]) -> list[Variant]:
    """Best first: by precision, then LiteRT before ONNX Runtime."""
    return sorted(variants, key=_rank)


def _rank(variant: Variant) -> tuple[int, int, str]:
    engine = ENGINES.index(variant.engine) if variant.engine in ENGINES else len(ENGINES)
    return _PRECISIONS.index(variant.precision), engine, variant.id

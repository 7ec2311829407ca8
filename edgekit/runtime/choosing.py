"""Which variant runs here, and why not the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgekit.manifest import Manifest, Variant
from edgekit.runtime.engines import ENGINES, TENSORRT, TENSORRT_RTX, engines_of

# Fastest first on the CPUs that were measured. The last three are smaller than they are fast.
_PRECISIONS = ("int8", "int8-float-io", "fp16", "fp32", "dynamic-int8", "int4-weights", "int16x8")
# A language model reads all its weights for each token: the fewer bytes they take, the sooner it comes.
_FIRST_FOR_TEXT = ("dynamic-int8", "int4-weights")
_FOR_TEXT = (*_FIRST_FOR_TEXT, *(name for name in _PRECISIONS if name not in _FIRST_FOR_TEXT))


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
    notes: tuple[str, ...] = ()  # what of it runs elsewhere, and which accelerators are there and did not take


@dataclass(frozen=True)
class Way:
    """One variant on one of the engines that can run it."""

    variant: Variant
    engine: str


def ways(variants: Iterable[Variant], *, text: bool = False) -> list[Way]:
    """Best first: what runs on the GPU through TensorRT, then by precision, then LiteRT before ONNX Runtime.

    With `text`, the variants are those of a language model.
    """
    order = _FOR_TEXT if text else _PRECISIONS
    found = (Way(variant, engine) for variant in variants for engine in engines_of(variant))
    return sorted(found, key=lambda way: _rank(way, order))


def ranked(manifest: Manifest) -> list[Variant]:
    """Each variant once, by the best of its ways."""
    found = ways(manifest.variants, text=manifest.language is not None)
    return list({way.variant.id: way.variant for way in found}.values())


def _rank(way: Way, order: Sequence[str]) -> tuple[bool, int, int, str]:
    engine = ENGINES.index(way.engine) if way.engine in ENGINES else len(ENGINES)
    return way.engine not in (TENSORRT, TENSORRT_RTX), order.index(way.variant.precision), engine, way.variant.id


def reasons_by_variant(refusals: Iterable[tuple[Way, str]]) -> tuple[Rejected, ...]:
    """Each variant once, with why each of its engines does not run it."""
    found: dict[str, dict[str, str]] = {}
    for way, reason in refusals:
        found.setdefault(way.variant.id, {})[way.engine] = reason
    return tuple(Rejected(variant, _joined(reasons)) for variant, reasons in found.items())


def _joined(reasons: Mapping[str, str]) -> str:
    different = set(reasons.values())
    return different.pop() if len(different) == 1 else "; ".join(f"on {name}: {why}" for name, why in reasons.items())

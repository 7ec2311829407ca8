"""What the page says beside the facts themselves: its headline, its tables that are not one fact a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.report import numbers
from edgekit.report.facts import BenchFacts, BuildReport, PairFacts, SampleFacts

GOOD, BAD, PLAIN = "good", "bad", ""
LIMITS = {
    "max_metric_drop": "largest drop of the metric, as a fraction",
    "max_bytes": "largest file, bytes",
    "max_p90_ms": "latency of 9 runs in 10, ms",
}
_CLEAR_DB = 100.0  # SNR from which on the matrix has its strongest tint


@dataclass(frozen=True)
class Tile:
    """One figure of the headline."""

    name: str
    value: str
    detail: str
    tone: str = PLAIN


@dataclass(frozen=True)
class LatencyRow:
    """A distribution in figures."""

    variant: str
    runs: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


def verdict(report: BuildReport) -> tuple[str, str]:
    """The first words of the page, and their tone."""
    failed = sum(not golden.passed for golden in report.golden)
    if report.device_tests.failed or failed:
        return "Device tests failed", BAD
    if not report.budget.items:
        return "No budget was stated", PLAIN
    return ("Within budget", GOOD) if report.budget.met else ("Over budget", BAD)


def tiles(report: BuildReport) -> list[Tile]:
    """Size, metric, latency and tests at a glance: of the smallest file and of the fastest."""
    made = []
    if report.variants:
        small = min(report.variants, key=lambda variant: variant.bytes)
        made.append(
            Tile(
                "Smallest file",
                f"{numbers.kilobytes(small.bytes)} kB",
                f"{small.id}, {numbers.times(small.ratio)} smaller than the float model",
            )
        )
        drop = (
            "" if small.metric_drop is None else f", {numbers.points(-small.metric_drop)} points from the float model"
        )
        made.append(
            Tile(
                f"Its {report.model.metric_name}",
                numbers.percent(small.metric),
                f"{report.model.evaluation_samples:,} samples{drop}",
            )
        )
    timed = [(variant.median_ms, variant) for variant in report.variants if variant.median_ms is not None]
    if timed:
        median, fast = min(timed, key=lambda pair: pair[0])
        made.append(
            Tile(
                "Fastest here",
                f"{numbers.milliseconds(median)} ms",
                f"{fast.id}, median; 9 in 10 within {numbers.milliseconds(fast.p90_ms)} ms",
            )
        )
    tests = report.device_tests
    made.append(
        Tile(
            "Device tests",
            f"{tests.passed} passed",
            f"{tests.failed} failed, {tests.skipped} skipped on {tests.device}",
            BAD if tests.failed else PLAIN,
        )
    )
    return made


def parity_matrix(pairs: Sequence[PairFacts]) -> dict[str, dict[str, PairFacts]]:
    """Rows and columns of the same names in the same order: row -> column -> their pair; nothing on the diagonal."""
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.reference, pair.other)))
    found = {frozenset((pair.reference, pair.other)): pair for pair in pairs}
    return {
        row: {column: found[key] for column in names if (key := frozenset((row, column))) in found} for row in names
    }


def tint(pair: PairFacts) -> float:
    """How strong a cell of the matrix is coloured, 0 to 1: the nearer the two are, the stronger."""
    if pair.snr_db is None:
        return 1.0 if pair.max_abs == 0 else 0.0
    return min(1.0, max(0.0, pair.snr_db / _CLEAR_DB))


def latency_rows(report: BuildReport) -> dict[str, list[LatencyRow]]:
    """Device -> every distribution that was measured there."""
    rows: dict[str, list[LatencyRow]] = {}
    for variant in report.variants:
        if variant.device is not None and variant.samples_ms:
            spread = map(float, np.percentile(variant.samples_ms, (50, 90, 99, 100)))
            row = LatencyRow(variant.id, variant.samples or len(variant.samples_ms), *spread)
            rows.setdefault(variant.device, []).append(row)
    for bench in report.benches:
        slowest = max(bench.samples_ms, default=bench.p99_ms)
        row = LatencyRow(bench.variant, bench.runs, bench.median_ms, bench.p90_ms, bench.p99_ms, slowest)
        rows.setdefault(device_of(bench), []).append(row)
    return rows


def device_of(bench: BenchFacts) -> str:
    """Where it was measured and how: "ssh://board: litert 2.3, 4 threads"."""
    return f"{bench.device} {bench.engine}, {bench.threads} thread{'s' if bench.threads > 1 else ''}"


def changed(sample: SampleFacts) -> dict[str, str]:
    """The variants that give a sample another class than the float model, with that class."""
    return {variant: found for variant, found in sample.predictions.items() if found != sample.reference}


def changed_counts(report: BuildReport) -> dict[str, int]:
    """How many of the evaluation samples each variant gives another class; those where nobody counted are left out."""
    return {
        parity.variant: round((1 - parity.top1_agreement) * parity.samples)
        for parity in report.parity
        if parity.top1_agreement is not None
    }

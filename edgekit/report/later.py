"""What is added to a build's report after the build: latencies on more devices, and the versions before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any  # Any: a module that is looked up when a database is given

import numpy as np

from edgekit.errors import ConfigError, did_you_mean
from edgekit.report.facts import FORMAT, MOST_SAMPLES, BenchFacts, BuildReport, HistoryPoint
from edgekit.report.reading import JSON_NAME, read_json, read_report
from edgekit.strict import parse

HISTORY_FORMAT = "edgekit-history"
HISTORY_VERSION = 1
MOST_POINTS = 2000  # the newest stay
DATABASE = "edgekit.history"  # the module that keeps runs in SQLite
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class _Bench:
    """What `edgekit bench --json` prints."""

    variant: str
    engine: str
    accelerator: str
    device: str
    threads: int
    warmup: int
    runs: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    samples_ms: tuple[float, ...]
    stages: object = None


@dataclass(frozen=True)
class _Run:
    """One run of `edgekit test` or `edgekit bench`, as `edgekit history --json` prints it."""

    kind: str
    device: str
    model: str
    version: str
    bundle_sha256: str
    commit: str | None
    outcome: str
    figures: Mapping[str, Mapping[str, float]]  # by variant, by name
    time: str


@dataclass(frozen=True)
class _Runs:
    """All that it prints."""

    runs: tuple[_Run, ...]


@dataclass(frozen=True)
class _History:
    """The file of `--history`."""

    format: str
    format_version: int
    points: tuple[HistoryPoint, ...]


def with_benches(report: BuildReport, files: Iterable[Path]) -> BuildReport:
    """The report with what `edgekit bench --json` printed for its variants, in files. Raises ConfigError."""
    ids = [variant.id for variant in report.variants]
    benches = {_way(bench): bench for bench in report.benches}
    for file in files:
        found = parse(
            _Bench, read_json(file, missing="edgekit bench BUNDLE --device URL --json prints one"), where=str(file)
        )
        if found.variant not in ids:
            raise ConfigError(
                f"{file}: variant '{found.variant}' is not in this build{did_you_mean(found.variant, ids)}"
            )
        if not found.samples_ms:
            raise ConfigError(
                f"{file}: samples_ms is empty, expected the raw latencies that edgekit bench --json prints"
            )
        added = BenchFacts(
            found.variant, found.device, found.engine, found.threads, found.runs, found.median_ms, found.p90_ms,
            found.p99_ms, thinned(found.samples_ms),
        )  # fmt: skip
        benches[_way(added)] = added
    return replace(report, benches=tuple(benches.values()))


def _way(bench: BenchFacts) -> tuple[str, str, str, int]:
    """What is measured anew by another bench, which then counts alone."""
    return bench.variant, bench.device, bench.engine, bench.threads


def thinned(samples_ms: tuple[float, ...]) -> tuple[float, ...]:
    """At most MOST_SAMPLES of them, evenly spread over the sorted ones, so that the distribution stays."""
    if len(samples_ms) <= MOST_SAMPLES:
        return samples_ms
    places = np.linspace(0, len(samples_ms) - 1, MOST_SAMPLES).round().astype(int)
    return tuple(float(value) for value in np.sort(samples_ms)[places])


def with_history(report: BuildReport, sources: Iterable[Path]) -> BuildReport:
    """The report with the versions before it, the oldest first, and itself behind them.

    A source is what `edgekit history --json` prints or the database that it reads, a file of history points, or a
    build's folder or report.json. Of several runs of one version, the newest counts. Raises ConfigError.
    """
    points = [*report.history, *(point for source in sources for point in read_history(source, report.model.name))]
    newest = {(point.version, point.device, point.variant): point for point in (*points, *points_of(report))}
    return replace(report, history=tuple(newest.values())[-MOST_POINTS:])


def read_history(source: Path, model: str) -> tuple[HistoryPoint, ...]:
    """The points of this model that a source holds. Raises ConfigError, also for a build of another model."""
    if source.is_dir() or source.name == JSON_NAME:
        return _of_build(read_report(source), source, model)
    if _is_sqlite(source):
        return _of_database(source, model)
    parsed = read_json(source, missing="give what edgekit history --json prints, or an earlier build's folder")
    if isinstance(parsed, dict) and parsed.get("format") == FORMAT:
        return _of_build(read_report(source), source, model)
    if isinstance(parsed, dict) and "runs" in parsed:
        return _of_runs(parse(_Runs, parsed, where=str(source)).runs, source, model)
    history = parse(_History, parsed, where=str(source))
    if (history.format, history.format_version) != (HISTORY_FORMAT, HISTORY_VERSION):
        raise ConfigError(
            f"{source}: format is '{history.format}' {history.format_version}, "
            f"expected '{HISTORY_FORMAT}' {HISTORY_VERSION}"
        )
    return history.points


def points_of(report: BuildReport) -> tuple[HistoryPoint, ...]:
    """What a build comes to in a history: one point for each variant and device that it was timed on."""
    by_id = {variant.id: variant for variant in report.variants}
    timed = [(item.id, item.device, item.median_ms, item.p90_ms) for item in report.variants if item.device is not None]
    timed += [(item.variant, item.device, item.median_ms, item.p90_ms) for item in report.benches]
    return tuple(
        HistoryPoint(
            report.model.version,
            None,
            _url(device),
            variant,
            by_id[variant].metric,
            by_id[variant].bytes,
            median_ms,
            p90_ms,
        )
        for variant, device, median_ms, p90_ms in timed
        if variant in by_id
    )


def _of_build(earlier: BuildReport, source: Path, model: str) -> tuple[HistoryPoint, ...]:
    if earlier.model.name != model:
        raise ConfigError(f"{source} is a build of '{earlier.model.name}', expected an earlier one of '{model}'")
    return points_of(earlier)


def _of_runs(runs: Iterable[_Run], source: Path, model: str) -> tuple[HistoryPoint, ...]:
    points = tuple(
        HistoryPoint(
            run.version, run.time, run.device, variant,
            metric=figures.get("metric_value"), median_ms=figures.get("median_ms"), p90_ms=figures.get("p90_ms"),
        )
        for run in runs
        if run.model == model
        for variant, figures in run.figures.items()
        if "median_ms" in figures
    )  # fmt: skip
    if not points:
        raise ConfigError(f"{source}: no run of '{model}' with a latency: edgekit bench and edgekit test keep them")
    return points


def _of_database(source: Path, model: str) -> tuple[HistoryPoint, ...]:
    """Read by the part of edgekit that writes it."""
    try:
        database: Any = import_module(DATABASE)
    except ImportError as problem:
        raise ConfigError(f"{source} is a database: give what edgekit history --json prints of it") from problem
    with database.History.open(source) as history:
        return _of_runs([_Run(**dataclasses.asdict(run)) for run in history.runs(model=model)], source, model)


def _url(device: str) -> str:
    """`local: Linux x86_64, 2 CPUs, 1 thread` -> `local:`, as a history calls it."""
    return device.partition(" ")[0]


def _is_sqlite(source: Path) -> bool:
    try:
        with source.open("rb") as stream:
            return stream.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False  # whoever reads it says why it cannot be read

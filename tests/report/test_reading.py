"""report.json, benches and histories read back, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.errors import ConfigError
from edgekit.report import read_report, to_json
from edgekit.report.facts import MOST_SAMPLES, HistoryPoint
from edgekit.report.later import DATABASE, thinned, with_benches, with_history
from tests.report.reports import MODEL, full_report, report

Json = dict[str, Any]
BENCH: Json = {
    "variant": "tflite-int8", "engine": "litert 2.3", "accelerator": "cpu (XNNPACK)", "device": "ssh://board",
    "threads": 4, "warmup": 20, "runs": 900, "median_ms": 1.5, "p90_ms": 1.8, "p99_ms": 2.0,
    "samples_ms": [1.0 + n / 1000 for n in range(900)],
}  # fmt: skip


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        call()
    return str(caught.value)


def spoiled(**changes: object) -> Json:
    return {**json.loads(json.dumps(to_json(full_report()))), **changes}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "report.json", to_json(full_report()))
    assert read_report(tmp_path) == read_report(tmp_path / "report.json") == full_report()


def test_what_build_prints_is_read_as_well(tmp_path: Path) -> None:
    assert read_report(write(tmp_path / "build.json", spoiled(files={"bundle": "x"}))) == full_report()


def test_a_report_from_before_layers_and_samples_is_read(tmp_path: Path) -> None:
    old = {key: value for key, value in spoiled().items() if key not in ("layers", "samples", "benches", "history")}
    assert read_report(write(tmp_path / "report.json", old)).layers == ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not JSON that edgekit wrote"),
        ("[1, 2]", "format is None, expected 'edgekit-report'"),
        ({"format": "edgekit-device-report"}, "format is 'edgekit-device-report', expected 'edgekit-report'"),
        (spoiled(format_version=2), "format_version is 2, this edgekit reads 1"),
        (spoiled(variants="none"), "variants is 'none', expected a list"),
        (spoiled(varaints=[]), "unknown key 'varaints'; did you mean 'variants'?"),
        (spoiled(model={"name": "x"}), r"missing key 'version' in \[model\]"),
        (json.dumps(spoiled()).replace("31.25", "NaN"), "NaN is no number of JSON"),
        (json.dumps(spoiled()).replace("31.25", "1e999"), "1e999 is too large"),
        (json.dumps(spoiled()).replace("digits", "\\ud800"), "surrogates not allowed"),
        ("[" * 100_000, "is not JSON that edgekit wrote"),
        (spoiled(samples=[{**spoiled()["samples"][0], "picture": "<svg/>"}]), "is not the base64 of a PNG"),
    ],
)  # fmt: skip
def test_a_damaged_report_is_refused_in_one_line(content: object, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        read_report(write(tmp_path / "report.json", content))
    assert "report.json" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_folder_without_a_report(tmp_path: Path) -> None:
    assert refused(lambda: read_report(tmp_path)) == f"no file {tmp_path}/report.json: edgekit build -o DIR makes one"


def test_latencies_of_another_device_are_added_once(tmp_path: Path) -> None:
    file = write(tmp_path / "bench.json", BENCH)
    slower = write(tmp_path / "slower.json", {**BENCH, "median_ms": 9.0})
    (bench,) = with_benches(report(), [slower, file]).benches
    assert (bench.device, bench.threads, bench.runs, bench.p90_ms) == ("ssh://board", 4, 900, 1.8)
    assert len(bench.samples_ms) == MOST_SAMPLES
    assert (bench.samples_ms[0], bench.samples_ms[-1]) == (1.0, 1.899)


def test_few_samples_stay_as_they_are() -> None:
    assert thinned((3.0, 1.0, 2.0)) == (3.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"variant": "tflite-int9"}, "variant 'tflite-int9' is not in this build; did you mean 'tflite-int8'?"),
        ({"samples_ms": []}, "samples_ms is empty"),
        ({"median_ms": "fast"}, "median_ms is 'fast', expected a number"),
        ({"error": "x"}, "unknown key 'error'"),
    ],
)
def test_a_bench_that_does_not_fit_is_refused(change: Json, told: str, tmp_path: Path) -> None:
    file = write(tmp_path / "bench.json", {**BENCH, **change})
    assert told in refused(lambda: with_benches(report(), [file]))


def test_versions_before_this_one_stand_before_it(tmp_path: Path) -> None:
    earlier = report(model=replace(MODEL, version="0.9.0"))
    (tmp_path / "old").mkdir()
    write(tmp_path / "old" / "report.json", to_json(earlier))
    point = HistoryPoint("0.8.0", "2026-01-01T00:00:00Z", "ssh://board", "tflite-int8", 0.9, None, 2.0, 3.0)
    points = {"format": "edgekit-history", "format_version": 1, "points": [vars(point)]}
    found = with_history(report(), [write(tmp_path / "history.json", points), tmp_path / "old"])
    assert [item.version for item in found.history] == ["0.8.0", "0.9.0", "1.0.0"]
    assert found.history[0] == point
    assert found.history[2].p90_ms == 0.234
    assert with_history(found, [tmp_path / "old"]) == found, "a second time adds nothing"


RUN: Json = {
    "kind": "bench", "device": "ssh://board", "model": "digits", "version": "0.7.0", "bundle_sha256": "ab" * 32,
    "commit": None, "outcome": "measured", "time": "2026-01-01T00:00:00.000+00:00",
    "figures": {"tflite-int8": {"median_ms": 2.0, "p90_ms": 3.0}, "onnx-int8": {"max_error": 0.1}},
}  # fmt: skip


def test_runs_of_devices_become_points_the_newest_of_a_version_counts(tmp_path: Path) -> None:
    again = {**RUN, "figures": {"tflite-int8": {"median_ms": 2.5, "p90_ms": 3.5}}}
    runs = {"runs": [RUN, again, {**RUN, "model": "faces"}]}
    first, *_ = with_history(report(), [write(tmp_path / "history.json", runs)]).history
    assert (first.version, first.device, first.variant, first.median_ms) == ("0.7.0", "ssh://board", "tflite-int8", 2.5)


def test_a_database_is_read_by_what_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Run:
        kind: str
        device: str
        model: str
        version: str
        bundle_sha256: str
        commit: str | None
        outcome: str
        figures: dict[str, dict[str, float]]
        time: str

    class History:
        @classmethod
        @contextmanager
        def open(cls, path: Path) -> Iterator[History]:
            assert path.name == "history.sqlite"
            yield cls()

        def runs(self, *, model: str) -> tuple[Run, ...]:
            assert model == "digits"
            return (Run(**RUN),)

    monkeypatch.setitem(sys.modules, DATABASE, SimpleNamespace(History=History))
    file = write(tmp_path / "history.sqlite", "SQLite format 3\0")
    assert with_history(report(), [file]).history[0].version == "0.7.0"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"format": "edgekit-history", "format_version": 2, "points": []}, "expected 'edgekit-history' 1"),
        ({"format": "edgekit-history", "format_version": 1, "points": [{"version": "1"}]}, "missing key"),
        ("version,ms", "is not JSON that edgekit wrote"),
        ("SQLite format 3\0...", "history"),
        ({"runs": [{"kind": "bench"}]}, "missing key 'device'"),
        ({"runs": []}, "no run of 'digits' with a latency"),
        (to_json(report(model=replace(MODEL, name="faces"))), "a build of 'faces', expected an earlier one"),
    ],
)  # fmt: skip
def test_a_history_that_does_not_fit_is_refused(content: object, told: str, tmp_path: Path) -> None:
    file = write(tmp_path / "history.json", content)
    assert told in refused(lambda: with_history(report(), [file]))

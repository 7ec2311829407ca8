"""`edgekit report` and `edgekit compare` on folders of builds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.report import BuildReport, to_json
from tests.report.reports import INT8, MODEL, report

Run = Callable[..., Any]


def build(folder: Path, made: BuildReport) -> Path:
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(to_json(made)), encoding="utf-8")
    return folder


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return build(tmp_path / "old", report())


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return build(
        tmp_path / "new", report(model=replace(MODEL, version="1.1.0"), variants=(replace(INT8, bytes=20_000),))
    )


def refused(ended: Any) -> str:
    assert ended.exit_code == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return str(line)


def test_the_page_of_a_build_is_made_again(edgekit: Run, old: Path, tmp_path: Path) -> None:
    ended = edgekit("report", old, "-o", tmp_path / "page", "--json")
    assert ended.exit_code == 0
    files = {name: Path(path) for name, path in ended.json["files"].items()}
    assert list(files) == ["html", "json", "markdown", "junit"]
    assert "<svg" in files["html"].read_text(encoding="utf-8")
    assert [path.name for path in old.iterdir()] == ["report.json"]


def test_devices_and_versions_are_added(edgekit: Run, old: Path, new: Path, tmp_path: Path) -> None:
    bench = {
        "variant": "tflite-int8", "engine": "litert 2.3", "accelerator": "cpu", "device": "ssh://board", "threads": 1,
        "warmup": 1, "runs": 3, "median_ms": 2.0, "p90_ms": 3.0, "p99_ms": 3.0, "samples_ms": [1.0, 2.0, 3.0],
    }  # fmt: skip
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    assert edgekit("report", new, "--bench", tmp_path / "bench.json", "--history", old).exit_code == 0
    page = (new / "report.html").read_text(encoding="utf-8")
    assert "ssh://board litert 2.3, 1 thread" in page
    assert '<section id="history"' in page
    kept = json.loads((new / "report.json").read_text())
    assert [point["version"] for point in kept["history"]] == ["1.0.0", "1.1.0", "1.1.0"]
    assert kept["benches"][0]["device"] == "ssh://board"


def test_several_builds_make_one_page(edgekit: Run, old: Path, new: Path, tmp_path: Path) -> None:
    ended = edgekit("report", old, new, "-o", tmp_path / "page")
    assert ended.stdout == f"{tmp_path}/page/comparison.html\n"
    assert "1.0.0 → 1.1.0" in (tmp_path / "page" / "comparison.html").read_text(encoding="utf-8")


def test_compare_says_what_changed(edgekit: Run, old: Path, new: Path) -> None:
    ended = edgekit("compare", old, new)
    assert ended.exit_code == 0
    assert ended.stdout.startswith("digits 1.0.0 -> 1.1.0: within budget -> within budget\n")
    assert "tflite-int8          20.0  -14.7 %" in ended.stdout
    assert "onnx-int8 (removed)" in ended.stdout
    changes = edgekit("compare", old, new, "--json").json
    assert changes["variants"][0]["bytes"] == {"before": 23_456, "after": 20_000, "change": -3_456}


def test_builds_of_different_models(edgekit: Run, old: Path, tmp_path: Path) -> None:
    other = build(tmp_path / "faces", report(model=replace(MODEL, name="faces")))
    told = "error: the builds are of different models ('digits' and 'faces'): give two builds of one model"
    assert refused(edgekit("compare", old, other)) == told
    assert refused(edgekit("report", old, other, "-o", tmp_path / "page")) == told
    assert refused(edgekit("report", old, "--history", other)).endswith(
        "is a build of 'faces', expected an earlier one of 'digits'"
    )
    assert not (tmp_path / "page").exists()
    assert [path.name for path in old.iterdir()] == ["report.json"]


@pytest.mark.parametrize("verb", ["report", "compare"])
def test_a_folder_without_a_report(edgekit: Run, verb: str, old: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    told = f"error: no file {tmp_path}/empty/report.json: edgekit build -o DIR makes one"
    assert refused(edgekit(verb, old, tmp_path / "empty")) == told
    assert refused(edgekit(verb, tmp_path / "empty", tmp_path / "empty")) in (
        told,
        "error: the same build is given twice: give different ones",
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"format"', "is not JSON that edgekit wrote"),
        ('{"format": "edgekit-report", "format_version": 9}', "format_version is 9"),
    ],
)
def test_a_damaged_report(edgekit: Run, content: str, told: str, old: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "report.json").write_text(content)
    for words in (("report", tmp_path / "bad"), ("compare", old, tmp_path / "bad")):
        assert told in refused(edgekit(*words))
    assert [path.name for path in (tmp_path / "bad").iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("compare", "OLD", "NEW", "--layers"), "--layers is for two files of one model"),
        (("compare", "OLD", "NEW", "--data", "x.npz"), "--data is for two files of one model"),
        (("compare", "a.tflite", "b.tflite"), "--data is missing"),
        (("report", "OLD", "NEW", "--history", "h.json"), "--history is for the report of one build"),
        (("report", "OLD", "OLD"), "the same build is given twice"),
        (("report", "OLD", "--history", "none.json"), "no file none.json"),
        (("report", "OLD", "--bench", "none.json"), "no file none.json: edgekit bench"),
    ],
)
def test_what_makes_no_sense_is_refused(edgekit: Run, words: tuple[str, ...], told: str, old: Path, new: Path) -> None:
    folders = {"OLD": old, "NEW": new}
    assert told in refused(edgekit(*(folders.get(word, word) for word in words)))

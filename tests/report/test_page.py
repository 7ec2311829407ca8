from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgekit.budgets import BudgetItem, BudgetVerdict
from edgekit.errors import OutputError
from edgekit.report import to_json, write_report
from edgekit.report.facts import PairFacts
from edgekit.report.page import parity_matrix, to_html
from edgekit.report.picture import latency_picture
from tests.disk import below_a_file
from tests.report.reports import INT8, MODEL, UNTIMED, report

VOID = {"meta", "link", "path", "use", "br", "img"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed in the wrong place; collects addresses that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def parsed(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    return parser


def row(html: str, first: str) -> list[str]:
    """The cells of the first table row that begins with this cell."""
    found = re.search(rf"<tr><td>{re.escape(first)}</td>.*?</tr>", html, re.DOTALL)
    assert found
    return re.findall(r"<td[^>]*>(.*?)</td>", found.group(), re.DOTALL)


def test_both_files_are_written(tmp_path: Path) -> None:
    html, json_file = write_report(report(), tmp_path / "out")
    assert json.loads(json_file.read_text()) == json.loads(json.dumps(to_json(report())))
    assert html.read_text() == to_html(report())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]


def test_the_page_fetches_nothing() -> None:
    addresses = parsed(to_html(report())).fetched
    assert all(address.startswith("#") for address in addresses)
    assert "@import" not in to_html(report())
    assert "<script" not in to_html(report())


def test_each_variant_has_its_figures() -> None:
    cells = row(to_html(report()), "tflite-int8")
    assert cells[1:8] == ["23.5", "12.2", "9.0", "97.1 %", "+0.9", "0.123", "0.234"]
    assert cells[8] == "android-arm64, local"


def test_what_was_not_measured_is_a_dash_and_said_in_the_notes() -> None:
    html = to_html(report())
    assert row(html, "onnx-int8")[6:8] == ["–", "–"]
    assert row(html, "onnx-int8")[5] == "-0.2"
    assert "<strong>onnx-int8</strong>: not timed on local: no engine" in html
    assert "<strong>tflite-int8</strong>: left in float: softmax" in html


def test_the_verdict_is_said_first() -> None:
    over = BudgetVerdict(False, (BudgetItem("max_p90_ms", 5.0, None, False, "onnx-int8"),))
    assert "Within budget" in to_html(report())
    assert "Over budget" in to_html(report(budget=over))
    assert "not measured" in to_html(report(budget=over))
    assert "No budget was stated" in to_html(report(budget=BudgetVerdict(True, ())))


def test_names_from_outside_are_escaped() -> None:
    hostile = "<script>alert(1)</script>"
    html = to_html(
        report(
            model=replace(MODEL, name=hostile),
            variants=(replace(INT8, id=hostile, notes=(hostile,)),),
            parity=(),
            notes=(hostile,),
        )
    )
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    parsed(html)


def test_a_report_without_a_float_metric_still_has_a_page() -> None:
    html = to_html(report(model=replace(MODEL, float_metric=None), notes=("float_metric is null",)))
    assert "<li>float_metric is null</li>" in html
    parsed(html)


def test_only_timed_variants_are_pictured() -> None:
    picture = latency_picture([INT8, UNTIMED])
    assert picture.startswith("<svg")
    assert picture.count("tflite-int8") == 1
    assert "onnx-int8" not in picture
    assert latency_picture([UNTIMED]) == ""
    parsed(to_html(report(variants=(UNTIMED,), parity=())))


def test_no_folder_for_the_report(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*report.json: Not a directory"):
        write_report(report(), below_a_file(tmp_path))


def test_every_variant_stands_against_every_other() -> None:
    pairs = (
        PairFacts("keras", "tflite-int8", 0.1, 0.999123, 31.25, 1.0),
        PairFacts("keras", "onnx-int8", 0.0, 1.0, None, 1.0),
        PairFacts("tflite-int8", "onnx-int8", 0.1, 0.998456, 30.0, 1.0),
    )
    matrix = parity_matrix(pairs)
    assert {name: list(row) for name, row in matrix.items()} == {
        "keras": ["tflite-int8", "onnx-int8"],
        "tflite-int8": ["keras", "onnx-int8"],
        "onnx-int8": ["keras", "tflite-int8"],
    }
    assert matrix["onnx-int8"]["tflite-int8"] is pairs[2]
    html = to_html(report(pairs=pairs))
    assert html.count("0.998456") == 2
    assert "Every variant against every other" not in to_html(report())
    parsed(html)

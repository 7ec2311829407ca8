from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgekit.budgets import BudgetItem, BudgetVerdict
from edgekit.errors import EngineError, OutputError
from edgekit.report import read_report, write_report
from edgekit.report.comment import to_markdown
from edgekit.report.facts import DeviceTests, GoldenFacts, PairFacts
from edgekit.report.junit import to_junit
from edgekit.report.page import to_html
from edgekit.report.views import parity_matrix, verdict
from tests.disk import below_a_file
from tests.report.reports import INT8, MODEL, UNTIMED, full_report, report

VOID = {"meta", "link", "path", "use", "br", "img", "line"}
FILES = ["report-junit.xml", "report.html", "report.json", "report.md"]


class Balanced(HTMLParser):
    """Fails on a tag that is closed in the wrong place; collects addresses that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._collect(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._collect(attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def _collect(self, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]


def parsed(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    return parser


def row(html: str, first: str) -> list[str]:
    """The cells behind the heading of the first table row that begins with this one."""
    found = re.search(rf'<tr><th scope="row"[^>]*>{re.escape(first)}</th>.*?</tr>', html, re.DOTALL)
    assert found
    return re.findall(r"<td[^>]*>(.*?)</td>", found.group(), re.DOTALL)


def variants(html: str) -> str:
    return html[html.index('<section id="variants"') : html.index('<section id="parity"')]


@pytest.fixture(scope="module")
def full_page() -> str:
    return to_html(full_report())


@pytest.fixture(scope="module")
def page() -> str:
    return to_html(report())


def test_all_files_are_written_and_made_again_from_the_json(full_page: str, tmp_path: Path) -> None:
    first = write_report(full_report(), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    assert read_report(tmp_path / "out") == full_report()
    write_report(read_report(tmp_path / "out"), tmp_path / "again")
    for name in set(FILES) - {"report.json"}:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert first.html.read_text(encoding="utf-8") == full_page


def test_the_page_fetches_nothing_and_runs_nothing(full_page: str) -> None:
    html = full_page
    assert all(address.startswith(("#", "data:")) for address in parsed(html).fetched)
    assert "@import" not in html
    assert "url(" not in html
    assert "<script" not in html
    assert "default-src 'none'" in html


def test_each_variant_has_its_figures(page: str) -> None:
    cells = row(variants(page), "tflite-int8")
    assert cells == ["23.5", "12.2", "9.0", "97.1 %", "+0.9", "0.123", "0.234", "android-arm64, local"]


def test_what_was_not_measured_is_a_dash_and_said_in_the_notes(page: str) -> None:
    html = page
    assert row(variants(html), "onnx-int8")[3:7] == ["97.1 %", "-0.2", "–", "–"]
    assert "Not timed, and so not shown: onnx-int8" in html
    assert "<li>not timed on local: no engine</li>" in html
    assert "<li>left in float: softmax</li>" in html


def test_the_verdict_is_said_first(full_page: str) -> None:
    over = BudgetVerdict(False, (BudgetItem("max_p90_ms", 5.0, None, False, "onnx-int8"),))
    assert '<p class="badge good">✓ Within budget</p>' in full_page
    assert verdict(report(budget=over)) == ("Over budget", "bad")
    assert verdict(report(budget=BudgetVerdict(True, ()))) == ("No budget was stated", "")
    assert verdict(report(device_tests=DeviceTests("local:", 4, 1, 0))) == ("Device tests failed", "bad")
    assert verdict(report(golden=(GoldenFacts("x", None, 0.05, False),))) == ("Device tests failed", "bad")


def test_the_layers_of_a_variant_with_its_culprit(full_page: str) -> None:
    html = full_page
    assert row(html, 'conv1 <span class="bad">◂ 1</span>') == [
        "CONV_2D",
        "100",
        "int8",
        "25.0 %",
        "40.0",
        "45.0",
        "21.0",
    ]
    assert '<li value="1"><strong>conv1</strong>, 21.0 dB: range outliers</li>' in html
    assert '<p class="quiet">alone</p>' in html


def test_a_report_without_anything_that_is_optional_still_has_a_page() -> None:
    bare = report(
        model=replace(MODEL, float_metric=None, compressed_sparsity=None), variants=(UNTIMED,), parity=(), golden=(),
        notes=("float_metric is null",),
    )  # fmt: skip
    html = to_html(bare)
    assert "<li>float_metric is null</li>" in html
    assert "<svg" not in html
    parsed(html)


def test_no_folder_for_the_report(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*report.html: Not a directory"):
        write_report(report(), below_a_file(tmp_path))


@pytest.mark.parametrize("package", ["altair", "jinja2"])
def test_without_the_packages_of_reports(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(EngineError, match=r'pip install "edgekit\[report\]"'):
        to_html(report())


def test_every_variant_stands_against_every_other(page: str) -> None:
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
    assert html.count(">equal<br>") == 2
    assert "Every variant against every other" not in page
    parsed(html)


def test_the_junit_has_a_case_for_each_limit() -> None:
    over = BudgetVerdict(False, (BudgetItem("max_bytes", 30_000, 40_000, False, "onnx\x00<int8>"),))
    suite = ElementTree.fromstring(to_junit(report(budget=over)))
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    cases = {f"{case.get('classname')} {case.get('name')}": case.find("failure") for case in suite}
    assert list(cases) == ["edgekit.budget max_bytes", "edgekit.golden tflite-int8", "edgekit.device local:"]
    failure = cases["edgekit.budget max_bytes"]
    assert failure is not None
    assert failure.get("message") == "largest file, bytes: 40,000 of onnx�<int8>, allowed 30,000"


def test_the_comment_is_markdown_and_nothing_else() -> None:
    hostile = "<script>|`*_[x](http://y)@you\n# big"
    text = to_markdown(report(variants=(replace(INT8, id=hostile, notes=(hostile,)),)))
    assert text.startswith("### digits 1.0.0: Within budget\n\n| limit |")
    assert "| largest file, bytes | 30,000 | 23,456 | tflite-int8 | ✅ met |" in text
    assert "| 23.5 | 12.2 | 97.1 % | +0.9 | 0.123 | 0.234 |" in text
    assert r"\<script\>\|\`\*\_\[x\](http://y)\@you \# big" in text
    assert "\n# big" not in text

"""The pages in a real browser: nothing is said, nothing is fetched, everything is there and within reach."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from edgekit.layer_figures import LayerFigures, VariantLayers
from edgekit.report.comparison_page import comparison_html
from edgekit.report.page import to_html
from tests.report.conftest import Visit
from tests.report.reports import INT8, MODEL, full_report, layers, report

Open = Callable[..., Visit]
HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{ 7*7 }}\x00\x1b"
FULL = full_report(layers=(VariantLayers("tflite-int8", layers(60), samples=4), *full_report().layers[1:]))


@pytest.fixture(scope="module")
def full_page() -> str:
    return to_html(FULL)


def quiet(visited: Visit) -> bool:
    return visited.said == [] and visited.asked_for == []


def visible(visited: Visit, selector: str) -> int:
    return sum(element.is_visible() for element in visited.page.query_selector_all(selector))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_without_a_word_and_shows_its_plots(visit: Open, full_page: str, width: int, scheme: str) -> None:
    visited = visit(full_page, width=width, scheme=scheme)
    assert quiet(visited)
    assert visible(visited, "figure svg") == 5, "Pareto, two devices, the unfolded layers, history"
    assert visited.page.evaluate("document.documentElement.scrollWidth") <= width, "the page itself never scrolls aside"
    assert visible(visited, ".samples img") == 2
    assert visited.page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")


def test_the_marks_of_the_plots_are_there_and_coloured_by_the_scheme(visit: Open, full_page: str) -> None:
    colours = []
    for scheme in ("light", "dark"):
        page = visit(full_page, scheme=scheme).page
        dots = page.query_selector_all("#variants .wide path:has(title)")
        assert [dot.query_selector("title").text_content().split(":")[0] for dot in dots] == [
            "tflite-int8",
            "tflite-fp32",
        ]
        colours.append([dot.evaluate("element => getComputedStyle(element).fill") for dot in dots])
    assert colours[0] != colours[1]
    assert all(colour.startswith("rgb") for scheme in colours for colour in scheme)


def test_labels_of_a_plot_do_not_overlap(visit: Open) -> None:
    crowd = tuple(replace(INT8, id=f"variant-{n}", median_ms=0.12 + 0.001 * (n % 3)) for n in range(7))
    html = to_html(report(variants=crowd))
    for width in (1280, 390):
        page = visit(html, width=width).page
        boxes = page.evaluate(
            """[...document.querySelectorAll('#variants svg text')]
            .filter(text => text.textContent.startsWith('variant-'))
            .map(text => text.getBoundingClientRect()).filter(box => box.width)
            .map(box => [box.x, box.y, box.right, box.bottom])"""
        )
        assert len(boxes) == 7
        assert not [
            (one, other)
            for place, one in enumerate(boxes)
            for other in boxes[:place]
            if one[0] < other[2] and other[0] < one[2] and one[1] + 2 < other[3] and other[1] + 2 < one[3]
        ]


def test_the_keyboard_reaches_every_control(visit: Open, full_page: str) -> None:
    page = visit(full_page).page
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.textContent.trim()")
        )
    assert reached[0] == "A Skip to the content"
    summaries = [text for text in reached if text.startswith("SUMMARY")]
    assert any("onnx-int8" in text for text in summaries)
    assert any("Hashes, recipe and tools" in text for text in summaries)
    assert sum(text.startswith("DIV") for text in reached) >= 5, "tables that scroll take the focus"

    page.locator("#provenance summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#provenance table").is_visible()


def test_screen_readers_are_told_what_the_eye_sees(visit: Open, full_page: str) -> None:
    page = visit(full_page).page
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(heading => Number(heading.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.evaluate("[...document.images].every(image => image.alt)")
    assert page.evaluate("[...document.querySelectorAll('svg')].every(svg => svg.closest('[aria-label]'))")
    assert page.evaluate("[...document.querySelectorAll('thead th')].every(cell => cell.scope === 'col')")
    assert page.evaluate("document.documentElement.lang") == "en"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))
    targets = page.evaluate("[...document.querySelectorAll('a')].map(link => link.getAttribute('href').slice(1))")
    assert set(targets) <= set(ids)


def test_it_prints(visit: Open, full_page: str) -> None:
    visited = visit(full_page, scheme="dark")
    assert visited.page.pdf(format="A4").startswith(b"%PDF-")
    visited.page.emulate_media(media="print")
    assert visited.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert visible(visited, "nav") == 0
    for table in ("#provenance table", "#history table"):
        assert visited.page.evaluate(f"document.querySelector('{table}').checkVisibility()"), "paper unfolds nothing"
    assert quiet(visited)


def hostile_layers(count: int) -> tuple[LayerFigures, ...]:
    return tuple(replace(layer, name=HOSTILE, precision=HOSTILE, reason=HOSTILE) for layer in layers(count))


def test_words_from_outside_stay_words(visit: Open) -> None:
    page = to_html(
        full_report(
            model=replace(MODEL, name=HOSTILE, metric_name=HOSTILE),
            variants=(replace(INT8, id=HOSTILE, device=HOSTILE, notes=(HOSTILE,), float_layers=(HOSTILE,)),),
            notes=(HOSTILE,),
            layers=(
                VariantLayers(HOSTILE, hostile_layers(3), note=HOSTILE), VariantLayers("many", hostile_layers(50)),
            ),
            samples=tuple(
                replace(sample, expected=HOSTILE, predictions={HOSTILE: HOSTILE}, row=7)
                for sample in full_report().samples
            ),
            history=tuple(replace(point, version=HOSTILE, variant=HOSTILE) for point in full_report().history),
        )
    )  # fmt: skip
    visited = visit(page)
    assert visited.said == []
    assert visited.asked_for == []
    assert visited.page.evaluate("document.scripts.length") == 0
    assert visited.page.evaluate("document.querySelectorAll('img:not(.samples img), [onerror]').length") == 0
    assert HOSTILE.split("\x00")[0] in visited.page.text_content("h1")
    assert "49" not in visited.page.text_content("h1")


def test_scripts_and_requests_are_forbidden_even_if_one_came_in(visit: Open, full_page: str) -> None:
    visited = visit(
        full_page.replace("</body>", "<script>alert(1)</script><img src='https://example.org/x.png'></body>")
    )
    assert "1" not in visited.said, "no dialog"
    assert len(visited.said) == 2
    assert all("Content Security Policy" in line for line in visited.said), json.dumps(visited.said)


def test_a_comparison_opens_without_a_word(visit: Open) -> None:
    other = full_report(model=replace(MODEL, version="1.1.0"), variants=(replace(INT8, bytes=20_000),))
    visited = visit(comparison_html({"1.0.0": FULL, "1.1.0": other}))
    assert quiet(visited)
    assert visible(visited, "figure svg") == 3
    rows: Any = visited.page.eval_on_selector_all("#variants tbody tr", "rows => rows.map(row => row.innerText)")
    assert any("1.1.0" in row and "20.0" in row and "-14.7 %" in row for row in rows)

"""Altair charts become SVG that stands in a page: no script, colours from the page's style, no request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any  # Any: Vega-Lite specifications, which are JSON
from xml.etree import ElementTree

from edgekit.errors import EngineError
from edgekit.report.numbers import plain
from edgekit.report.placing import CHARACTER

if TYPE_CHECKING:
    import altair

WIDE, NARROW = 980, 340  # CSS pixels of a chart on a desktop (and on paper), and on a phone
INK, QUIET, LINE = "var(--ink)", "var(--quiet)", "var(--line)"
SERIES = tuple(f"var(--c{number})" for number in range(6))  # colours that the colour-blind can tell apart
_SVG = "http://www.w3.org/2000/svg"
_MARK = "graphics-symbol"  # the role that Vega gives to what stands for a row of data
_BEYOND = re.compile(r"[\U00010000-\U0010ffff]")
_AXIS = {
    "labelColor": QUIET, "titleColor": QUIET, "titleFontWeight": "normal", "gridColor": LINE, "domainColor": LINE,
    "tickColor": LINE, "labelFontSize": 12, "titleFontSize": 12, "titlePadding": 8, "labelLimit": 190,
}  # fmt: skip
_LEGEND = {
    "labelColor": QUIET, "titleColor": QUIET, "titleFontWeight": "normal", "labelFontSize": 12, "titleFontSize": 12,
    "orient": "top", "labelLimit": 300, "columnPadding": 26,
}  # fmt: skip


def plotting() -> Any:
    """The plotting package. Raises EngineError where it is not installed."""
    try:
        import altair
    except ImportError as problem:
        raise EngineError('reports need their plotting packages: pip install "edgekit[report]"') from problem
    return altair


Rows = Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Plot:
    """A chart and its data by name, which Altair would check and copy row by row if the chart held them."""

    chart: altair.TopLevelMixin
    data: Mapping[str, Rows]


def named(rows: str) -> Any:
    """The data of this name, for a chart."""
    return plotting().NamedData(rows)


def draw(plot: Plot) -> str:
    """The plot as one <svg> element, whose marks say their description when the pointer rests on them."""
    import vl_convert

    specification = plot.chart.to_dict()
    specification["config"] = _theme()
    specification["datasets"] = {name: list(rows) for name, rows in plot.data.items()}
    return _for_a_page(vl_convert.vegalite_to_svg(_plain(specification)))


def _plain(value: Any) -> Any:
    """The same without what vl-convert fails on when it measures a text.

    Control characters end the whole process, and of characters beyond U+FFFF Vega leaves half where it cuts a label.
    """
    if isinstance(value, str):
        return _BEYOND.sub("\N{REPLACEMENT CHARACTER}", plain(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def label_room(labels: Iterable[str], most: int) -> int:
    """Pixels that the names along an axis take, up to `most`: fonts differ from machine to machine, so it is ample."""
    return min(most, round(max(map(len, labels), default=0) * CHARACTER) + 10)


@cache
def _theme() -> dict[str, Any]:
    return {
        "background": "transparent",
        "padding": {"left": 4, "right": 12, "top": 6, "bottom": 4},
        "font": "sans-serif",
        "view": {"stroke": None},
        "axis": _AXIS,
        "legend": _LEGEND,
        "title": {"color": INK, "fontSize": 13, "anchor": "start", "fontWeight": 600},
        "header": {"labelColor": QUIET, "titleColor": QUIET},
        "text": {"color": INK, "fontSize": 12},
        "rule": {"color": QUIET},
        "mark": {"color": SERIES[0]},
    }


def _for_a_page(svg: str) -> str:
    """Sized by its viewBox alone; descriptions as <title>, since what a page says to screen readers is its tables."""
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(svg)
    for size in ("width", "height", "version", "class"):
        root.attrib.pop(size, None)
    root.set("aria-hidden", "true")
    root.set("style", f"max-width:{root.get('viewBox', '').split()[2]}px")
    for element in root.iter():
        described = element.attrib.pop("aria-label", None)
        if element.attrib.get("role") == _MARK and described and element.tag == f"{{{_SVG}}}path":
            ElementTree.SubElement(element, f"{{{_SVG}}}title").text = described
        for name in [name for name in element.attrib if name == "role" or name.startswith("aria-") or name == "class"]:
            if element is not root:
                del element.attrib[name]
    return _shorter(ElementTree.tostring(root, encoding="unicode"))


def _shorter(svg: str) -> str:
    """The same with a hundredth of a pixel as the finest step, and without what an engine of scripts would read."""
    svg = re.sub(r'\s(?:pointer-events|xml:space)="[^"]*"', "", svg)
    return re.sub(r"(\d+\.\d{2})\d+(?=[^\"<>]*\")", r"\1", svg)

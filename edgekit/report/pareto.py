"""Metric against latency, with the size of the file as area: what each variant costs and what it keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any  # Any: charts, whose package is imported when one is drawn

from edgekit.report.drawing import QUIET, SERIES, Plot, named, plotting
from edgekit.report.placing import CHARACTER, Box, Dot, place
from edgekit.report.placing import HEIGHT as LINE_HEIGHT

HEIGHT = 300
FILLED, OUTLINED = 0.8, 0.12  # opacity of points on the front, and of the others
LARGEST = 1500.0  # square pixels of the largest file
_LEAST_SPAN = 2.0  # points of the metric, so that noise is not stretched to look like a difference
_LOG_FROM = 12.0  # ratio of latencies from which on the axis is logarithmic


@dataclass(frozen=True)
class Point:
    """One variant that was timed."""

    label: str
    group: str  # what its colour says: the format, or the build
    latency_ms: float
    metric: float  # fraction
    bytes: int


@dataclass(frozen=True)
class Level:
    """A line across the plot."""

    label: str
    metric: float  # fraction


def front(points: Sequence[Point]) -> set[Point]:
    """Those that no other point beats: as good in all of metric, latency and bytes, and better in one."""

    def costs(point: Point) -> tuple[float, float, float]:
        return -point.metric, point.latency_ms, point.bytes

    return {
        point
        for point in points
        if not any(
            costs(other) != costs(point) and all(a <= b for a, b in zip(costs(other), costs(point), strict=True))
            for other in points
        )
    }


def pareto_chart(points: Sequence[Point], levels: Sequence[Level], width: int, *, metric_name: str) -> Plot:
    """The plot. Filled points lie on the front; lines are levels of the metric."""
    alt = plotting()
    axes = _Axes(points, levels, width - 90)
    best = front(points)
    rows = [
        {
            "group": point.group, "x": point.latency_ms, "y": 100 * point.metric, "kB": point.bytes / 1000,
            "filled": FILLED if point in best else OUTLINED, "said": _said(point),
        }
        for point in points
    ]  # fmt: skip
    lines = [{"label": level.label, "y": 100 * level.metric, "x": axes.x_domain[1]} for level in levels]
    labels = _labels(points, levels, axes)
    led = [row for row in labels if "fx" in row]
    chart = alt.layer(
        *(_level_marks(alt) if lines else ()), _circles(alt, points, axes, metric_name), *_label_marks(alt)
    ).properties(width=axes.width, height=HEIGHT)
    return Plot(chart, {"points": rows, "levels": lines, "labels": labels, "led": led})


def _circles(alt: Any, points: Sequence[Point], axes: _Axes, metric_name: str) -> Any:
    groups = list(dict.fromkeys(point.group for point in points))
    colour = alt.Color("group:N", title=None, scale=alt.Scale(domain=groups, range=list(SERIES)))
    sizes = alt.Scale(domain=[0, max(point.bytes for point in points) / 1000], range=[0, LARGEST])
    size_legend = alt.Legend(tickCount=3, symbolStrokeColor=QUIET, symbolFillColor="transparent", format=",.3~r")
    x_axis = alt.Axis(tickCount=max(4, axes.width // 120), labelFlush=False)
    return (
        alt.Chart(named("points"))
        .mark_point(strokeWidth=2)
        .encode(
            x=alt.X("x:Q", title="median latency, ms", scale=alt.Scale(**axes.x_scale), axis=x_axis),
            y=alt.Y("y:Q", title=f"{metric_name}, %", scale=alt.Scale(domain=axes.y_domain, nice=False, zero=False)),
            stroke=colour,
            fill=colour,
            size=alt.Size("kB:Q", title="kB", scale=sizes, legend=size_legend),
            fillOpacity=alt.FillOpacity("filled:Q", scale=None),
            description="said:N",
        )
    )


def _said(point: Point) -> str:
    return f"{point.label}: {100 * point.metric:.1f} %, {point.latency_ms:.4f} ms, {point.bytes / 1000:,.1f} kB"


class _Axes:
    """Scales that are known before the plot is drawn, so that labels can be placed in pixels."""

    def __init__(self, points: Sequence[Point], levels: Sequence[Level], width: int) -> None:
        self.width = width
        times = [point.latency_ms for point in points]
        self.log = min(times) > 0 and max(times) / min(times) > _LOG_FROM
        self.x_domain = (min(times) / 1.6, max(times) * 1.8) if self.log else (0.0, max(times) * 1.18 or 1.0)
        values = [100 * metric for metric in (*(it.metric for it in points), *(it.metric for it in levels))]
        missing = max(0.0, _LEAST_SPAN - (max(values) - min(values))) / 2
        pad = 0.14 * (max(values) - min(values) + 2 * missing) + missing
        self.y_domain = (min(values) - pad, max(values) + pad)

    @property
    def x_scale(self) -> dict[str, Any]:
        return {"domain": list(self.x_domain), "nice": False, "type": "log" if self.log else "linear"}

    def to_pixels(self, point: Point) -> tuple[float, float]:
        least, most = map(self._position, self.x_domain)
        across = (self._position(point.latency_ms) - least) / (most - least)
        return across * self.width, self.height_of(point.metric)

    def height_of(self, metric: float) -> float:
        bottom, top = self.y_domain
        return (top - 100 * metric) / (top - bottom) * HEIGHT

    def from_pixels(self, x: float, y: float) -> tuple[float, float]:
        least, most = map(self._position, self.x_domain)
        position = least + x / self.width * (most - least)
        bottom, top = self.y_domain
        return (math.exp(position) if self.log else position), top - y / HEIGHT * (top - bottom)

    def _position(self, value: float) -> float:
        return float(math.log(value)) if self.log else value


def _level_marks(alt: Any) -> tuple[Any, Any]:
    base = alt.Chart(named("levels")).encode(y=alt.Y("y:Q"))
    rules = base.mark_rule(strokeDash=[4, 3], strokeWidth=1, aria=False)
    names = base.mark_text(align="right", baseline="bottom", dy=-3, color=QUIET, fontSize=11, aria=False)
    return rules, names.encode(x="x:Q", text="label:N")


def _label_marks(alt: Any) -> tuple[Any, Any]:
    lines = alt.Chart(named("led")).mark_rule(strokeWidth=0.7, aria=False)
    texts = alt.Chart(named("labels")).mark_text(align="left", aria=False)
    return lines.encode(x="fx:Q", y="fy:Q", x2="tx:Q", y2="ty:Q"), texts.encode(x="x:Q", y="y:Q", text="label:N")


def _labels(points: Sequence[Point], levels: Sequence[Level], axes: _Axes) -> list[dict[str, Any]]:
    """Where each name is written, and for those away from their points the line that leads there."""
    largest = max(point.bytes for point in points) or 1
    dots = [
        Dot(*axes.to_pixels(point), math.sqrt(LARGEST * point.bytes / largest / math.pi), point.label)
        for point in points
    ]
    heights = [axes.height_of(level.metric) for level in levels]
    taken = [
        Box(axes.width - CHARACTER * len(level.label), axes.width, height - LINE_HEIGHT / 2)
        for level, height in zip(levels, heights, strict=True)
    ]
    boxes = place(dots, axes.width, HEIGHT, lines=heights, taken=taken)
    rows: list[dict[str, Any]] = []
    for point, dot, box in zip(points, dots, boxes, strict=True):
        x, y = axes.from_pixels(box.left, box.middle)
        rows.append({"label": point.label, "x": x, "y": y})
        if box.led:
            towards = LINE_HEIGHT / 2 if dot.y > box.middle else -LINE_HEIGHT / 2
            edge_x, edge_y = axes.from_pixels(min(max(dot.x, box.left), box.right), box.middle + towards)
            rows[-1] |= {"fx": point.latency_ms, "fy": 100 * point.metric, "tx": edge_x, "ty": edge_y}
    return rows

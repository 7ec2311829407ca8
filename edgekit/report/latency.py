"""Latency as distributions, one row for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any  # Any: charts, whose package is imported when one is drawn

import numpy as np

from edgekit.report.drawing import INK, SERIES, Plot, label_room, named, plotting

ROW = 34  # pixels
CUT = 1.2  # of the largest 90th percentile: where the axis ends, lest a single slow run leave no room for the others
TICKS = 60  # of a distribution, evenly spread over its sorted samples
SPREAD = {"p1": 1, "p25": 25, "p50": 50, "p75": 75, "p90": 90, "p99": 99}  # percentiles


@dataclass(frozen=True)
class Distribution:
    """Raw latencies of one variant on one device."""

    label: str
    samples_ms: tuple[float, ...]


def latency_chart(distributions: Sequence[Distribution], width: int) -> Plot:
    """Box: quartiles; line: median; whiskers: 1st to 99th percentile; diamond: 90th; ticks: single runs.

    What lies beyond `CUT` is cut off, with a mark that says so.
    """
    alt = plotting()
    found = [_summary(item) for item in distributions]
    end = min(max(row["p99"] for row in found) * 1.02, CUT * max(row["p90"] for row in found)) or 1.0
    rows = [{**row, "whisker": min(row["p99"], end), "cut": "▸" if row["p99"] > end else ""} for row in found]
    room = label_room((item.label for item in distributions), width // 3)
    y = alt.Y(
        "label:N", title=None, sort=None,
        axis=alt.Axis(domain=False, ticks=False, labelColor=INK, minExtent=room, labelLimit=room),
    )  # fmt: skip
    scale = alt.Scale(domain=[0, end], nice=False)
    axis = alt.Axis(tickCount=max(3, width // 120), labelFlush=False)
    x = alt.X("p1:Q", title="ms for one inference", scale=scale, axis=axis)
    base = alt.Chart(named("rows")).encode(y=y, description="said:N")
    ticks = [tick for item in distributions for tick in _ticks(item) if tick["ms"] <= end]
    singles = alt.Chart(named("ticks")).encode(x="ms:Q", y=y)
    chart = alt.layer(
        base.mark_rule(color=SERIES[0], aria=False).encode(x=x, x2="whisker:Q"),
        base.mark_bar(color=SERIES[0], opacity=0.55, height=12).encode(x="p25:Q", x2="p75:Q"),
        base.mark_tick(color=INK, thickness=2, size=16, aria=False).encode(x="p50:Q"),
        base.mark_point(shape="diamond", filled=True, size=55, color=SERIES[1], opacity=1).encode(x="p90:Q"),
        base.mark_text(align="left", color=SERIES[0], dx=1, aria=False).encode(x="whisker:Q", text="cut:N"),
        singles.mark_tick(color=SERIES[0], opacity=0.4, size=5, thickness=1, yOffset=12, aria=False),
    )
    return Plot(chart.properties(width=width - room - 30, height=ROW * len(rows)), {"rows": rows, "ticks": ticks})


def _summary(item: Distribution) -> dict[str, Any]:
    found = np.percentile(item.samples_ms, list(SPREAD.values()))
    spread = {name: float(value) for name, value in zip(SPREAD, found, strict=True)}
    said = f"{item.label}: median {spread['p50']:.4f} ms, p90 {spread['p90']:.4f} ms, p99 {spread['p99']:.4f} ms"
    return {"label": item.label, "said": said, **spread}


def _ticks(item: Distribution) -> list[dict[str, Any]]:
    within = np.percentile(item.samples_ms, np.linspace(1, 99, min(TICKS, len(item.samples_ms))))
    return [{"label": item.label, "ms": float(value)} for value in within]

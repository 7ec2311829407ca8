"""How the metric, the latency and the size went from version to version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any  # Any: charts, whose package is imported when one is drawn

from edgekit.report.drawing import SERIES, WIDE, Plot, named, plotting
from edgekit.report.facts import HistoryPoint

PANEL = 110  # pixels
LEAST_SPAN = 2.0  # points of the metric, so that noise does not look like a difference
_LONG = 30  # characters of a name, of which three do not stand side by side
_PANELS = {"metric": "metric, %", "p90_ms": "p90, ms", "kB": "file, kB"}


def series_of(points: Sequence[HistoryPoint], own: Sequence[HistoryPoint] = ()) -> tuple[list[str], int]:
    """What has a line of its own, and how many more there are: a plot tells six apart.

    Those that `own`, the build that is reported, has a point of come first, then those over the most versions, then the
    newest.
    """
    versions: dict[str, set[str]] = {}
    for point in reversed(points):
        versions.setdefault(_series(point, points), set()).add(point.version)
    keys = {(point.variant, point.device) for point in own}
    mine = {_series(point, points) for point in points if (point.variant, point.device) in keys}
    found = sorted(versions, key=lambda name: (name not in mine, -len(versions[name])))
    return found[: len(SERIES)], max(len(found) - len(SERIES), 0)


def history_chart(points: Sequence[HistoryPoint], width: int, own: Sequence[HistoryPoint] = ()) -> Plot:
    """One panel for each figure that was kept; one line for each variant and device."""
    alt = plotting()
    shown, _ = series_of(points, own)
    versions = list(dict.fromkeys(point.version for point in points))
    rows = [_row(point, points) for point in points if _series(point, points) in shown]
    panels = [field for field in _PANELS if any(row[field] is not None for row in rows)]
    colour = alt.Color(
        "series:N", title=None, scale=alt.Scale(domain=shown, range=list(SERIES[: len(shown)])),
        legend=alt.Legend(columns=_columns(shown, width)),
    )  # fmt: skip
    charts = []
    for field in panels:
        axis = alt.Axis(labelAngle=0, labelOverlap=True) if field == panels[-1] else None
        base = alt.Chart(named("points")).transform_filter(f"isValid(datum.{field})").encode(
            x=alt.X("version:O", sort=versions, scale=alt.Scale(domain=versions), axis=axis, title=None),
            y=alt.Y(f"{field}:Q", title=_PANELS[field], scale=_scale(alt, field, rows),
                    axis=alt.Axis(tickCount=4, minExtent=46)),
            color=colour,
        )  # fmt: skip
        lines = base.mark_line(strokeWidth=2, aria=False)
        dots = base.mark_point(filled=True, size=45, opacity=1).encode(description="said:N")
        charts.append((lines + dots).properties(width=width - 100, height=PANEL))
    return Plot(alt.vconcat(*charts, spacing=14), {"points": rows})


def _scale(alt: Any, field: str, rows: Sequence[dict[str, Any]]) -> Any:
    """From zero on, but for the metric: around its values, never less than LEAST_SPAN."""
    if field != "metric":
        return alt.Scale(zero=True)
    values = [row["metric"] for row in rows if row["metric"] is not None]
    pad = max(0.1 * (max(values) - min(values)), (LEAST_SPAN - max(values) + min(values)) / 2)
    return alt.Scale(domain=[min(values) - pad, max(values) + pad], nice=False)


def _series(point: HistoryPoint, points: Sequence[HistoryPoint]) -> str:
    devices = {other.device for other in points}
    if len(devices) == 1:
        return point.variant
    short = {device: _short(device) for device in devices}
    distinct = len(set(short.values())) == len(devices)
    return f"{point.variant}, {short[point.device] if distinct else point.device}"


def _short(device: str) -> str:
    """`local: Linux x86_64, 2 CPUs` -> `local`."""
    return (device.split() or [device])[0].rstrip(":,")


def _columns(names: Sequence[str], width: int) -> int:
    if width < WIDE:
        return 1
    return 2 if max(map(len, names)) > _LONG else 3


def _row(point: HistoryPoint, points: Sequence[HistoryPoint]) -> dict[str, Any]:
    metric = None if point.metric is None else 100 * point.metric
    size = None if point.bytes is None else point.bytes / 1000
    told = [f"{point.version} {_series(point, points)}"]
    told += [f"{metric:.1f} %"] if metric is not None else []
    told += [f"p90 {point.p90_ms:.4f} ms"] if point.p90_ms is not None else []
    told += [f"{size:,.1f} kB"] if size is not None else []
    return {
        "version": point.version, "series": _series(point, points), "metric": metric, "p90_ms": point.p90_ms,
        "kB": size, "said": ", ".join(told),
    }  # fmt: skip

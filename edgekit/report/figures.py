"""The plots of a report, each drawn for a desktop and for a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgekit.layer_figures import VariantLayers
from edgekit.report.drawing import NARROW, WIDE, Plot, draw
from edgekit.report.facts import BuildReport
from edgekit.report.history_charts import history_chart
from edgekit.report.latency import Distribution, latency_chart
from edgekit.report.later import points_of
from edgekit.report.layer_charts import NAMED, layers_chart
from edgekit.report.pareto import Level, Point, pareto_chart
from edgekit.report.views import device_of

BUDGET_DROP = "max_metric_drop"


@dataclass(frozen=True)
class Figure:
    """One plot as SVG."""

    label: str  # what it shows and where the figures stand, for those who do not see it
    wide: str
    narrow: str | None  # None where a phone scrolls the wide one


def figure(label: str, chart: Callable[[int], Plot], *, narrow: bool = True) -> Figure:
    """Draw both forms, or the wide one alone."""
    return Figure(label, draw(chart(WIDE)), draw(chart(NARROW)) if narrow else None)


def pareto(reports: Mapping[str, BuildReport]) -> Figure | None:
    """Metric against latency; colours are formats in one report, the reports' names in several."""
    points = [point for name, report in reports.items() for point in _points(report, name, several=len(reports) > 1)]
    if not points:
        return None
    (first, *others) = reports.values()
    levels = [] if others else _levels(first)
    label = f"{first.model.metric_name} against median latency, with the size of the file as area; figures: Variants"
    return figure(label, lambda width: pareto_chart(points, levels, width, metric_name=first.model.metric_name))


def _points(report: BuildReport, name: str, *, several: bool) -> Iterable[Point]:
    for variant in report.variants:
        if variant.median_ms is not None and variant.metric is not None:
            group = name if several else variant.format
            yield Point(variant.id, group, variant.median_ms, variant.metric, variant.bytes)


def _levels(report: BuildReport) -> list[Level]:
    whole = report.model.float_metric
    if whole is None:
        return []
    limits = [item.limit for item in report.budget.items if item.name == BUDGET_DROP]
    return [Level("float model", whole), *(Level("least that the budget allows", whole - limit) for limit in limits)]


def latencies(report: BuildReport) -> dict[str, Figure]:
    """Device -> the distributions that were measured there."""
    return latencies_of({"": report})


def latencies_of(reports: Mapping[str, BuildReport]) -> dict[str, Figure]:
    """The same of several builds, each variant's distributions below each other."""
    found: dict[str, dict[str, list[Distribution]]] = {}
    for name, report in reports.items():
        for variant in report.variants:
            if variant.samples_ms and variant.device is not None:
                label = f"{variant.id} {name}".rstrip()
                rows = found.setdefault(variant.device, {}).setdefault(variant.id, [])
                rows.append(Distribution(label, variant.samples_ms))
        for bench in report.benches:
            rows = found.setdefault(device_of(bench), {}).setdefault(bench.variant, [])
            rows.append(Distribution(f"{bench.variant} {name}".rstrip(), bench.samples_ms))
    return {
        device: _latency(device, [row for rows in by_variant.values() for row in rows])
        for device, by_variant in found.items()
    }


def _latency(device: str, rows: Sequence[Distribution]) -> Figure:
    label = f"Latency distributions of {len(rows)} variants on {device}; figures: the table below"
    return figure(label, lambda width: latency_chart(rows, width))


def layers(found: VariantLayers) -> Figure | None:
    """Bytes, SNR and zeros of each layer of one variant."""
    if not found.layers:
        return None
    label = f"Bytes, SNR and zeros of the {len(found.layers)} layers of {found.variant}; figures: the table below"
    return figure(label, lambda width: layers_chart(found.layers, width), narrow=len(found.layers) <= NAMED)


def history(report: BuildReport) -> Figure | None:
    """Metric, latency and size over versions."""
    if all(figure is None for point in report.history for figure in (point.metric, point.bytes, point.p90_ms)):
        return None
    versions = len({point.version for point in report.history})
    label = f"Metric, latency and size over {versions} versions; figures: the table below"
    return figure(label, lambda width: history_chart(report.history, width, points_of(report)))

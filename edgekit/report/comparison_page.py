"""`comparison.html`: several builds of one model side by side, the first is what the others are held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from edgekit.report import figures, views
from edgekit.report.changes import BuildChanges, VariantChange, compare_builds
from edgekit.report.facts import BuildReport
from edgekit.report.page import render


@dataclass(frozen=True)
class Row:
    """One variant in one build."""

    build: str
    change: VariantChange  # `after` is this build's; `before` the first build's


def comparison_html(reports: Mapping[str, BuildReport]) -> str:
    """The page; keys are what the builds are called. Raises ConfigError for builds of different models."""
    (first, *others) = reports
    changes = {name: compare_builds(reports[first], reports[name]) for name in others}
    return render(
        "comparison.html.jinja",
        model=reports[first].model,
        reports=reports,
        first=first,
        verdicts={name: views.verdict(report) for name, report in reports.items()},
        rows=_rows(first, reports[first], changes),
        pareto=figures.pareto(reports),
        latencies=figures.latencies_of(reports),
        steps=[(one, other, compare_builds(reports[one], reports[other])) for one, other in pairwise(reports)],
        notes=list(dict.fromkeys(note for found in changes.values() for note in found.notes)),
    )


def _rows(first: str, report: BuildReport, changes: Mapping[str, BuildChanges]) -> dict[str, list[Row]]:
    """Variant -> its rows, the first build's before the others'."""
    found: dict[str, list[Row]] = {}
    for row in (Row(first, change) for change in compare_builds(report, report).variants):
        found.setdefault(row.change.id, []).append(row)
    for name, compared in changes.items():
        for change in compared.variants:
            found.setdefault(change.id, []).append(Row(name, change))
    return found


def names_of(reports: list[tuple[str, BuildReport]]) -> dict[str, BuildReport]:
    """Called by their versions where those differ, else by where they lie."""
    versions = {report.model.version for _, report in reports}
    distinct = len(versions) == len(reports)
    return {report.model.version if distinct else place: report for place, report in reports}

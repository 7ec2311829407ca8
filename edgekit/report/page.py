"""`report.html`: one file that fetches nothing and runs nothing; its style, plots and pictures are inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: what templates are given

from edgekit.errors import EngineError
from edgekit.layer_figures import NEAR_DB
from edgekit.report import figures, numbers, views
from edgekit.report.facts import BuildReport
from edgekit.report.history_charts import series_of

_OPEN_FIRST = ("int8", "int8-float-io")  # the precisions whose layers are unfolded, the first that there is


def to_html(report: BuildReport) -> str:
    """The page of a build. Raises EngineError where the packages of reports are not installed."""
    layers = [(found, figures.layers(found)) for found in report.layers]
    return render(
        "report.html.jinja",
        report=report,
        verdict=views.verdict(report),
        tiles=views.tiles(report),
        limits=views.LIMITS,
        pareto=figures.pareto({report.model.version: report}),
        latencies=figures.latencies(report),
        latency_rows=views.latency_rows(report),
        layers=layers,
        opened=_opened(report),
        near_db=NEAR_DB,
        matrix=views.parity_matrix(report.pairs),
        history=figures.history(report),
        undrawn=series_of(report.history)[1],
        changed_counts=views.changed_counts(report),
    )


def _opened(report: BuildReport) -> str | None:
    """The variant whose layers are unfolded at first."""
    shown = {found.variant for found in report.layers}
    by_precision = {variant.precision: variant.id for variant in reversed(report.variants) if variant.id in shown}
    return next((by_precision[name] for name in _OPEN_FIRST if name in by_precision), None)


def render(template: str, **values: object) -> str:
    """Fill a template of this package; everything from outside is escaped."""
    try:
        import jinja2
    except ImportError as problem:
        raise EngineError('reports need their packages: pip install "edgekit[report]"') from problem
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgekit.report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(_filters())
    return environment.get_template(template).render(**values)


def _filters() -> Mapping[str, Any]:
    words = ("percent", "points", "milliseconds", "kilobytes", "decibels", "cosine", "times", "number")
    found: dict[str, Any] = {word: getattr(numbers, word) for word in words}
    return {**found, "changed": views.changed, "tint": views.tint}

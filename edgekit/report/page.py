"""`report.html` and `report.json`. The page needs no network: its style and its picture are inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from edgekit.files import write_text
from edgekit.report.facts import BuildReport, PairFacts, to_json
from edgekit.report.picture import latency_picture

LIMITS = {
    "max_metric_drop": "largest drop of the metric, as a fraction",
    "max_bytes": "largest file, bytes",
    "max_p90_ms": "latency of 9 runs in 10, ms",
}


def write_report(report: BuildReport, folder: Path) -> tuple[Path, Path]:
    """Write both files into `folder`; their paths. Raises OutputError."""
    html, json_file = folder / "report.html", folder / "report.json"
    write_text(json_file, json.dumps(to_json(report), indent=1, allow_nan=False) + "\n")
    write_text(html, to_html(report))
    return html, json_file


def to_html(report: BuildReport) -> str:
    """The page."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        percent=_percent, ms=_milliseconds, kb=_kilobytes, db=_decibels, score=_score, number=_number
    )
    source = files("edgekit.report").joinpath("report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        report=report, picture=latency_picture(report.variants), limits=LIMITS, matrix=parity_matrix(report.pairs)
    )


def parity_matrix(pairs: Sequence[PairFacts]) -> dict[str, dict[str, PairFacts]]:
    """Rows and columns of the same names in the same order: row -> column -> their pair; nothing on the diagonal."""
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.reference, pair.other)))
    found = {frozenset((pair.reference, pair.other)): pair for pair in pairs}
    return {
        row: {column: found[key] for column in names if (key := frozenset((row, column))) in found} for row in names
    }


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _score(value: float | None) -> str:
    """A metric in points of a hundred, with its sign where it is a difference."""
    return "–" if value is None else f"{100 * value:+.1f}"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _kilobytes(value: int) -> str:
    return f"{value / 1000:,.1f}"


def _number(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _decibels(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"

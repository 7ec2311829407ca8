"""The one table that `demo` and `build` print."""

from __future__ import annotations

from edgekit.cli.table import table
from edgekit.pipeline import Build
from edgekit.report import BuildReport, VariantFacts, to_json

HEADINGS = ("variant", "bytes", "× smaller", "metric", "drop", "median ms", "p90 ms")


def text(made: Build) -> str:
    """The table, the verdict and where the files are."""
    report = made.report
    model, tests = report.model, report.device_tests
    lines = [
        table([_headings(report), *(_row(variant) for variant in report.variants)]),
        "",
        f"float model: {model.float_parameters:,} parameters, {model.float_bytes:,} bytes in fp32, "
        f"{model.metric_name} {_percent(model.float_metric)} on {model.evaluation_samples} held-back samples",
        f"device tests ({tests.device}): {tests.passed} passed, {tests.failed} failed, {tests.skipped} skipped",
        *(f"budget {item.name}: {_value(item.value)} of {_value(item.limit)}, {'met' if item.met else 'NOT MET'}"
          for item in report.budget.items),
        *(f"note: {note}" for note in report.notes),
        f"bundle: {made.bundle}   report: {made.report_html}",
    ]  # fmt: skip
    return "\n".join(lines)


def as_json(made: Build) -> dict[str, object]:
    """The report, and where the files are."""
    body = to_json(made.report)
    paths = ("bundle", "model", "report_html", "report_json")
    return {**body, "files": {name: str(getattr(made, name)) for name in paths}}


def exit_code(made: Build) -> int:
    """1 when a budget was not met, a golden output was off, or a device test failed."""
    report = made.report
    good = report.budget.met and not report.device_tests.failed and all(golden.passed for golden in report.golden)
    return 0 if good else 1


def _headings(report: BuildReport) -> tuple[str, ...]:
    return tuple(report.model.metric_name if heading == "metric" else heading for heading in HEADINGS)


def _row(variant: VariantFacts) -> tuple[str, ...]:
    return (
        variant.id,
        f"{variant.bytes:,}",
        f"{variant.ratio:.1f}",
        _percent(variant.metric),
        "-" if variant.metric_drop is None else f"{100 * variant.metric_drop:+.1f}",
        _milliseconds(variant.median_ms),
        _milliseconds(variant.p90_ms),
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _value(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"

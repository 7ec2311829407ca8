"""`report.md`: the comment of a pull request, in GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.report import numbers
from edgekit.report.facts import BuildReport, VariantFacts
from edgekit.report.views import LIMITS, changed_counts, verdict

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>#|~!@$"} | {"\n": " ", "\r": " "})


def to_markdown(report: BuildReport) -> str:
    """Verdict, budget, variants, what changed; notes folded. Names from outside cannot become markup or mentions."""
    model = report.model
    tests, metric = report.device_tests, escaped(model.metric_name)
    parts = [
        f"### {escaped(model.name)} {escaped(model.version)}: {verdict(report)[0]}",
        *_budget(report),
        table(
            ("variant", "kB", "× smaller", metric, "drop, points", "median ms", "p90 ms"),
            [_row(variant) for variant in report.variants],
        ),
        f"Float model: {model.float_parameters:,} parameters, {numbers.kilobytes(model.float_bytes)} kB, "
        f"{metric} {numbers.percent(model.float_metric)} on {model.evaluation_samples:,} samples. Device tests "
        f"({escaped(tests.device)}): {tests.passed} passed, {tests.failed} failed, {tests.skipped} skipped.",
        *_changed(report),
        *_notes(report),
    ]
    return "\n\n".join(parts) + "\n"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures; cells are Markdown already."""
    rule = ["---", *("---:" for _ in headings[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def escaped(text: str) -> str:
    """Text that stays text in Markdown."""
    return text.translate(_SPECIAL)


def _row(variant: VariantFacts) -> tuple[str, ...]:
    return (
        escaped(variant.id),
        numbers.kilobytes(variant.bytes),
        f"{variant.ratio:.1f}",
        numbers.percent(variant.metric),
        numbers.points(variant.metric_drop),
        numbers.milliseconds(variant.median_ms),
        numbers.milliseconds(variant.p90_ms),
    )


def _budget(report: BuildReport) -> list[str]:
    rows = [
        (
            LIMITS.get(item.name, escaped(item.name)), numbers.number(item.limit), numbers.number(item.value),
            escaped(item.variant or numbers.NONE), "✅ met" if item.met else "❌ not met",
        )
        for item in report.budget.items
    ]  # fmt: skip
    return [table(("limit", "allowed", "measured", "variant", "verdict"), rows)] if rows else []


def _changed(report: BuildReport) -> list[str]:
    counts = changed_counts(report)
    if not counts:
        return []
    told = ", ".join(f"{escaped(variant)} {count}" for variant, count in counts.items())
    return [f"Samples whose first choice differs from the float model's: {told}."]


def _notes(report: BuildReport) -> list[str]:
    notes = [*report.notes, *(f"{item.id}: {note}" for item in report.variants for note in item.notes)]
    if not notes:
        return []
    listed = "\n".join(f"- {escaped(note)}" for note in notes)
    return [f"<details><summary>{len(notes)} notes</summary>\n\n{listed}\n\n</details>"]

"""`edgekit compare BUILD BUILD`: what changed from one build's folder to another."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgekit.cli.output import emit
from edgekit.cli.table import table
from edgekit.errors import ConfigError
from edgekit.report import numbers, read_report
from edgekit.report.changes import BuildChanges, Delta, VariantChange, compare_builds, to_json
from edgekit.report.reading import JSON_NAME

HEADINGS = ("variant", "kB", "change", "metric", "change", "p90 ms", "change")
_SAVED_MODEL = "saved_model.pb"


def are_builds(args: argparse.Namespace) -> bool:
    """Whether folders of builds are compared. Raises ConfigError where what else was given makes no sense of them."""
    sides = [Path(side) for side in (args.reference, args.other)]
    if not any((side / JSON_NAME).is_file() for side in sides) and not (
        args.data is None and all(map(_is_folder, sides))
    ):
        return False
    flags = {"--data": args.data, "--layers": args.layers, "--fix": args.fix, "-o": args.output}
    given = next((flag for flag, value in flags.items() if value), None)
    if given is not None:
        raise ConfigError(f"{given} is for two files of one model, and these are folders of builds: leave it out")
    return True


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    changes = compare_builds(read_report(Path(args.reference)), read_report(Path(args.other)))
    emit(args, to_json(changes), _text(changes))
    return 0


def _is_folder(side: Path) -> bool:
    return side.is_dir() and not (side / _SAVED_MODEL).exists()


def _text(changes: BuildChanges) -> str:
    lines = [
        f"{changes.model} {changes.before} -> {changes.after}: {_verdict(changes.before_within_budget)} -> "
        f"{_verdict(changes.after_within_budget)}",
        "",
        table([HEADINGS, *(_row(change) for change in changes.variants)]),
    ]
    if changes.provenance:
        lines += [
            "",
            *(f"{what}: {before or '-'} -> {after or '-'}" for what, (before, after) in changes.provenance.items()),
        ]
    return "\n".join([*lines, *(f"note: {note}" for note in changes.notes)])


def _verdict(within: bool | None) -> str:
    return "no budget" if within is None else "within budget" if within else "over budget"


def _row(change: VariantChange) -> tuple[str, ...]:
    name = change.id if change.status == "both" else f"{change.id} ({change.status})"
    return (
        name,
        numbers.kilobytes(_shown(change.bytes)), _relative(change.bytes),
        numbers.percent(_shown(change.metric)), numbers.points(change.metric.change),
        numbers.milliseconds(_shown(change.p90_ms)), _relative(change.p90_ms),
    )  # fmt: skip


def _shown(delta: Delta) -> float | None:
    return delta.before if delta.after is None else delta.after


def _relative(delta: Delta) -> str:
    return numbers.NONE if delta.ratio is None else f"{100 * delta.ratio:+.1f} %"

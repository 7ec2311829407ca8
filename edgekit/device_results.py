"""What device tests found, for the history and for a pull request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any  # Any: the plugin's report, which is JSON

from edgekit.devices.testing import TestOutcome
from edgekit.files import sha256_file
from edgekit.history import Run, figures_of

_MIB = 1 << 20
_FAILED, _INCONCLUSIVE = "failed", "inconclusive"


def runs_of(outcome: TestOutcome, bundle: Path) -> list[Run]:
    """One run for each device; one that was never reached is left out."""
    report, sha256 = outcome.report, sha256_file(bundle)
    subject = report["bundle"]
    return [
        Run(
            kind="test",
            device=device["url"],
            model=subject["name"],
            version=subject["version"],
            bundle_sha256=sha256,
            commit=report["commit"],
            outcome=outcome_of(device, report["tests"]),
            figures=figures_of(device["figures"]),
        )
        for device in report["devices"]
        if device["probe"] is not None
    ]


def outcome_of(device: Mapping[str, Any], tests: Sequence[Mapping[str, Any]]) -> str:
    """ "broken", "failed", "inconclusive" or "passed"."""
    outcomes = [test["outcome"] for test in tests if test["device"] == device["url"]]
    if device["broken"]:
        return "broken"
    return next((word for word in (_FAILED, _INCONCLUSIVE) if word in outcomes), "passed")


def markdown(outcome: TestOutcome) -> str:
    """A summary for a pull request: devices, figures, the gate, and why what failed did."""
    report = outcome.report
    subject, devices, tests = report["bundle"], report["devices"], report["tests"]
    commit = f", commit {report['commit'][:12]}" if report["commit"] else ""
    lines = [f"## {subject['name']} {subject['version']}: device tests {_verdict(outcome)}{commit}", ""]
    lines += _table(
        ("device", "", "passed", "failed", "skipped", "inconclusive"),
        [(f"`{device['url']}`", outcome_of(device, tests), *_counts(device["url"], tests)) for device in devices],
    )
    figures = [_row(device["url"], name, found) for device in devices for name, found in device["figures"].items()]
    measured = [row for row in figures if any(cell != "–" for cell in row[2:])]
    if measured:
        heading = ("device", "variant", "median ms", "p90 ms", "peak MiB", "largest error", "metric")
        lines += ["", *_table(heading, measured)]
    gates = [(device["url"], device["gate"]) for device in devices if device["gate"]]
    lines += ["", *(_gate(url, gate) for url, gate in gates)] if gates else []
    troubles = [
        f"- `{device['url']}` is broken: {_one_line(device['broken'])}" for device in devices if device["broken"]
    ]
    troubles += [f"- {test['name']}: {_one_line(test['reason'])}" for test in tests if test["outcome"] == _FAILED]
    lines += ["", "### What failed", "", *troubles] if troubles else []
    lines += _skipped(tests)
    return "\n".join(lines) + "\n"


def _skipped(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why, folded away: what did not run has not passed."""
    reasons = Counter(_one_line(test["reason"]) for test in tests if test["outcome"] == "skipped")
    if not reasons:
        return []
    lines = [f"- {count} × {reason}" for reason, count in reasons.most_common()]
    return ["", f"<details><summary>{reasons.total()} skipped</summary>", "", *lines, "", "</details>"]


def _verdict(outcome: TestOutcome) -> str:
    if outcome.failed_of_itself:
        return "**failed**"
    if outcome.broken:
        return "**not finished: a device is broken**"
    return "**inconclusive**" if outcome.inconclusive else "passed"


def _counts(url: str, tests: Sequence[Mapping[str, Any]]) -> list[str]:
    outcomes = [test["outcome"] for test in tests if test["device"] == url]
    return [str(outcomes.count(word)) for word in ("passed", _FAILED, "skipped", _INCONCLUSIVE)]


def _row(url: str, variant: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    memory = found.get("peak_rss_bytes")
    return (
        f"`{url}`",
        variant,
        _number(found.get("median_ms"), 3),
        _number(found.get("p90_ms"), 3),
        _number(None if memory is None else memory / _MIB, 1),
        _number(found.get("max_error"), 5),
        "–" if "metric_value" not in found else f"{found['metric']} {found['metric_value']:.4f}",
    )


def _gate(url: str, gate: Mapping[str, Any]) -> str:
    variant = gate["choice"]["variant"]
    compared = f"{variant} of {gate['candidate']} against {gate['baseline']}"
    return f"- `{url}`, {compared}: **{gate['verdict']}**: {gate['reason']}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]

"""The files of a report, all from the same facts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgekit.files import write_text
from edgekit.report.comment import to_markdown
from edgekit.report.facts import BuildReport, to_json
from edgekit.report.junit import to_junit
from edgekit.report.page import to_html
from edgekit.report.reading import JSON_NAME


@dataclass(frozen=True)
class ReportFiles:
    """Where they are."""

    html: Path
    json: Path
    markdown: Path  # for the comment of a pull request
    junit: Path  # the budgets, golden outputs and device tests as test cases


def write_report(report: BuildReport, folder: Path) -> ReportFiles:
    """Write all of them into `folder`. Raises OutputError, EngineError."""
    files = ReportFiles(
        folder / "report.html", folder / JSON_NAME, folder / "report.md", folder / "report-junit.xml"
    )  # fmt: skip
    contents = {
        files.html: to_html(report),
        files.json: json.dumps(to_json(report), indent=1, allow_nan=False) + "\n",
        files.markdown: to_markdown(report),
        files.junit: to_junit(report),
    }
    for path, text in contents.items():
        write_text(path, text)
    return files

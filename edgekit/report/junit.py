"""`report-junit.xml`: budgets, golden outputs and the device tests' outcome, as a CI shows test cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from edgekit.report import numbers
from edgekit.report.facts import BuildReport
from edgekit.report.views import LIMITS


@dataclass(frozen=True)
class Case:
    """One test case; without a failure it passed."""

    group: str
    name: str
    failure: str | None


def to_junit(report: BuildReport) -> str:
    """One suite, named after the model."""
    cases = list(_cases(report))
    suite = ElementTree.Element(
        "testsuite",
        name=numbers.plain(f"{report.model.name} {report.model.version}"),
        tests=str(len(cases)),
        failures=str(sum(case.failure is not None for case in cases)),
        errors="0",
        skipped="0",
    )
    for case in cases:
        element = ElementTree.SubElement(
            suite, "testcase", classname=f"edgekit.{case.group}", name=numbers.plain(case.name)
        )
        if case.failure is not None:
            ElementTree.SubElement(element, "failure", message=numbers.plain(case.failure))
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(suite, encoding="unicode")}\n'


def _cases(report: BuildReport) -> Iterator[Case]:
    for item in report.budget.items:
        what = LIMITS.get(item.name, item.name)
        told = f"{what}: {numbers.number(item.value)} of {item.variant}, allowed {numbers.number(item.limit)}"
        yield Case("budget", item.name, None if item.met else told)
    for golden in report.golden:
        error = "not finite" if golden.max_error is None else f"{golden.max_error:.3g}"
        yield Case("golden", golden.variant, None if golden.passed else f"error {error}, allowed {golden.limit:.3g}")
    tests = report.device_tests
    failed = f"{tests.failed} of {tests.failed + tests.passed} failed on {tests.device}; edgekit test shows them"
    yield Case("device", tests.device, failed if tests.failed else None)

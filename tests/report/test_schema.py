"""report.json against its schema, which others validate with."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from edgekit.report import to_json
from tests.report.reports import full_report, report
from tests.report.schemas import schema

SCHEMA: dict[str, Any] = json.loads(files("edgekit.report").joinpath("report.schema.json").read_text(encoding="utf-8"))


def problems(document: object) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema", reason='pip install "edgekit[report]"')
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]


def test_the_schema_is_that_of_the_facts() -> None:
    assert schema() == SCHEMA, "python -m tests.report.schemas > edgekit/report/report.schema.json"


def test_reports_validate() -> None:
    assert problems(to_json(report())) == []
    assert problems(to_json(full_report())) == []


def test_what_does_not_fit_is_found() -> None:
    document = to_json(full_report())
    assert problems({**document, "format_version": 2})
    assert problems({**document, "more": 1})
    assert problems({**document, "variants": [{"id": "x"}]})

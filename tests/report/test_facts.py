from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgekit.report import to_json
from tests.report.reports import INT8, report


def test_the_json_begins_with_its_format_and_version() -> None:
    made = to_json(report())
    assert list(made)[:2] == ["format", "format_version"]
    assert (made["format"], made["format_version"]) == ("edgekit-report", 1)


def test_the_json_has_the_keys_that_others_read() -> None:
    made = json.loads(json.dumps(to_json(report())))
    assert made["model"]["float_bytes"] == 285_352
    assert made["variants"][0]["targets"] == ["android-arm64", "local"]
    assert made["variants"][0]["samples_ms"] == [0.11, 0.12, 0.13, 0.24]
    assert made["budget"] == {
        "met": True,
        "items": [
            {"name": "max_bytes", "limit": 30_000, "value": 23_456, "met": True, "variant": "tflite-int8"},
        ],
    }
    assert made["provenance"]["recipe"] == [{"step": "prune", "sparsity": 0.8}]


def test_what_was_not_measured_is_null_and_has_a_note() -> None:
    untimed = json.loads(json.dumps(to_json(report())))["variants"][1]
    assert untimed["median_ms"] is None
    assert untimed["device"] is None
    assert untimed["notes"] == ["not timed on local: no engine"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_not_a_number_is_a_bug(value: float) -> None:
    with pytest.raises(ValueError, match=r"Out of range float values"):
        to_json(report(variants=(replace(INT8, metric=value),)))

"""What changed from one build to another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.budgets import BudgetVerdict
from edgekit.errors import ConfigError
from edgekit.report.changes import SAME_DEVICE_ONLY, SEPARATE_RUNS, compare_builds
from edgekit.report.comparison_page import names_of
from tests.report.reports import INT8, MODEL, UNTIMED, report

BEFORE = report()


def test_figures_that_both_builds_have_are_held_against_each_other() -> None:
    after = report(
        model=replace(MODEL, version="1.1.0"),
        variants=(replace(INT8, bytes=20_000, metric=0.961, p90_ms=0.117), UNTIMED),
        budget=BudgetVerdict(False, BEFORE.budget.items),
    )
    found = compare_builds(BEFORE, after)
    assert (found.before, found.after) == ("1.0.0", "1.1.0")
    assert (found.before_within_budget, found.after_within_budget) == (True, False)
    int8, untimed = found.variants
    assert (int8.bytes.before, int8.bytes.after, int8.bytes.change) == (23_456, 20_000, -3_456)
    assert int8.metric.change == pytest.approx(-0.01)
    assert int8.p90_ms.ratio == pytest.approx(-0.5)
    assert (untimed.p90_ms.before, untimed.p90_ms.change, untimed.p90_ms.ratio) == (None, None, None)
    assert found.notes == (SEPARATE_RUNS,)
    assert found.provenance == {}


def test_variants_come_and_go() -> None:
    found = compare_builds(report(variants=(INT8,)), report(variants=(UNTIMED,)))
    assert {change.id: change.status for change in found.variants} == {"onnx-int8": "added", "tflite-int8": "removed"}
    assert found.variants[0].bytes.change is None


def test_latencies_of_different_devices_are_not_compared() -> None:
    found = compare_builds(BEFORE, report(variants=(replace(INT8, device="ssh://board", p90_ms=9.0),)))
    assert (found.variants[0].p90_ms.after, found.variants[0].p90_ms.change) == (9.0, None)
    assert found.notes == (SAME_DEVICE_ONLY,)


def test_what_went_in_is_compared_too() -> None:
    other = replace(
        BEFORE.provenance,
        recipe=({"step": "prune", "sparsity": 0.9}, {"step": "cluster"}),
        tools={"edgekit": "0.2.0"},
        data_sha256={"evaluation": "ee" * 32},
    )
    found = compare_builds(BEFORE, report(provenance=other))
    assert found.provenance == {
        "evaluation data, sha256": ("cd" * 32, "ee" * 32),
        "step 1": ("step = prune, sparsity = 0.8", "step = prune, sparsity = 0.9"),
        "step 2": (None, "step = cluster"),
        "edgekit": ("0.1.0", "0.2.0"),
    }
    assert "different data" in found.notes[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "faces"}, r"different models \('digits' and 'faces'\): give two builds of one model"),
        ({"metric_name": "mae:score"}, r"different metrics \('top1' and 'mae:score'\)"),
    ],
)
def test_builds_that_cannot_be_compared(change: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compare_builds(BEFORE, report(model=replace(MODEL, **change)))  # type: ignore[arg-type]


def test_builds_are_called_by_their_versions_where_those_differ() -> None:
    newer = report(model=replace(MODEL, version="1.1.0"))
    assert list(names_of([("a", BEFORE), ("b", newer)])) == ["1.0.0", "1.1.0"]
    assert list(names_of([("a", BEFORE), ("b", BEFORE)])) == ["a", "b"]

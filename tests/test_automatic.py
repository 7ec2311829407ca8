"""`precision = "auto"`: what is taken, what is left out, and what is said of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import edgekit
from edgekit.automatic import check_auto, choose
from edgekit.budgets import Budget
from edgekit.comparison import Parity
from edgekit.conversion import Artifact
from edgekit.errors import ConfigError, ConversionError
from edgekit.measuring import MeasuredVariant, describe
from edgekit.planning import Plan, plan
from tests.conftest import Digits
from tests.report.reports import MODEL

PLAN = plan({"android-arm64": "auto", "coral-edgetpu": ["int8"]})
DROPS = {"tflite-fp32": 0.0, "tflite-fp16": 0.0, "tflite-int8": 0.002, "tflite-int4-weights": 0.05}
MEDIANS = {"tflite-fp32": 0.4, "tflite-fp16": 0.41, "tflite-int8": 0.2, "tflite-int4-weights": 0.1}
BUDGET = Budget(max_metric_drop=0.01)
REFUSED = {"tflite-int16x8": "LSTM has no such form"}


@pytest.fixture
def measured(tmp_path: Path) -> list[MeasuredVariant]:
    """Four candidates; int8 is another target's too."""
    assert MODEL.float_metric is not None
    made = []
    for planned in PLAN.variants:
        if planned.id in DROPS:
            file = tmp_path / f"{planned.id}.tflite"
            file.write_bytes(bytes(1000 if planned.precision == "fp32" else 300))
            artifact = Artifact("tflite", planned.precision, file, (), (), "litert", "2.0")
            parity = Parity(0.0, None, None, None)
            metric = MODEL.float_metric - DROPS[planned.id]
            made.append(MeasuredVariant(describe(planned, artifact, ()), artifact, metric, parity))
    return made


def test_the_fastest_that_keeps_the_metric_stays(measured: list[MeasuredVariant]) -> None:
    made = choose(PLAN, measured, MEDIANS, REFUSED, MODEL, BUDGET, device="ssh://phone")
    assert made.preferred == {"android-arm64": "tflite-int8", "coral-edgetpu": "tflite-int8"}
    assert [(item.variant.id, item.variant.targets) for item in made.variants] == [
        ("tflite-int8", ("android-arm64", "coral-edgetpu"))
    ]
    (note,) = made.notes
    assert note == (
        'android-arm64: precision "auto" took tflite-int8 (0.2 ms, -0.2 points, 300 bytes), timed on ssh://phone; '
        "slower: tflite-fp32 (0.4 ms, -0.0 points, 1,000 bytes), tflite-fp16 (0.41 ms, -0.0 points, 300 bytes); "
        "over the budget or not run: tflite-int4-weights (0.1 ms, -5.0 points, 300 bytes); "
        "tflite-int16x8 could not be made: LSTM has no such form"
    )


def test_another_targets_variant_stays_when_it_is_not_taken(measured: list[MeasuredVariant]) -> None:
    made = choose(PLAN, measured, {**MEDIANS, "tflite-int8": 9.0}, {}, MODEL, BUDGET, device="ssh://phone")
    assert [(item.variant.id, item.variant.targets) for item in made.variants] == [
        ("tflite-fp32", ("android-arm64",)),
        ("tflite-int8", ("coral-edgetpu",)),
    ]


def test_a_variant_that_was_not_timed_is_not_taken(measured: list[MeasuredVariant]) -> None:
    timed = {name: value for name, value in MEDIANS.items() if name != "tflite-int8"}
    made = choose(PLAN, measured, timed, {}, MODEL, BUDGET, device="ssh://phone")
    assert made.preferred["android-arm64"] == "tflite-fp32"
    assert "tflite-int8 (not run, -0.2 points, 300 bytes)" in made.notes[0]


def test_the_size_counts_too(measured: list[MeasuredVariant]) -> None:
    slow_int8 = {**MEDIANS, "tflite-int8": 0.5}
    assert choose(PLAN, measured, slow_int8, {}, MODEL, replace(BUDGET, max_bytes=500), device="ssh://phone").preferred[
        "android-arm64"
    ] == ("tflite-fp16")


def test_where_nothing_fits_what_loses_least_stays_and_it_is_said(measured: list[MeasuredVariant]) -> None:
    made = choose(PLAN, measured, MEDIANS, {}, MODEL, Budget(max_metric_drop=0.01, max_bytes=10), device="ssh://phone")
    assert made.preferred["android-arm64"] == "tflite-fp32"
    assert "none of 4 candidates fits the budget" in made.notes[0]


def test_no_candidate_at_all() -> None:
    with pytest.raises(ConversionError, match="target 'android-arm64': no precision could be made; LSTM has no such"):
        choose(PLAN, [], {}, REFUSED, MODEL, BUDGET, device="ssh://phone")


def test_auto_needs_a_limit_on_the_metric() -> None:
    check_auto(PLAN, BUDGET)
    check_auto(Plan(PLAN.variants, {}), Budget())
    with pytest.raises(ConfigError, match=r"'android-arm64': precision \"auto\" .* with max_metric_drop in \[bud"):
        check_auto(PLAN, Budget(max_bytes=1))


def test_a_build_takes_one_of_all(digits: Digits, tmp_path: Path) -> None:
    """The engines and the converter are real; which is fastest is the machine's to say."""
    targets, budget = {"android-arm64": "auto"}, Budget(max_metric_drop=0.02)
    made = edgekit.build(
        digits.model, targets=targets, evaluation=digits.test_file, calibration=digits.train_file, budget=budget,
        output=tmp_path / "digits-1.0.0.edgekit",
    )  # fmt: skip
    (taken,) = made.report.variants
    assert [variant.id for variant in made.manifest.variants] == [taken.id]
    assert made.report.budget.met
    note = made.report.notes[0]
    assert note.startswith(f'android-arm64: precision "auto" took {taken.id} (')
    others = {"fp32", "fp16", "dynamic-int8", "int8", "int8-float-io", "int16x8", "int4-weights"} - {taken.precision}
    assert all(f"tflite-{precision} (" in note for precision in others)

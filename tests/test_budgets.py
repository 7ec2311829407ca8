from __future__ import annotations

from dataclasses import dataclass

import pytest

from edgekit.budgets import Budget, check_budget
from edgekit.errors import ConfigError


@dataclass(frozen=True)
class Measured:
    id: str
    bytes: int = 100
    metric_drop: float | None = 0.0
    p90_ms: float | None = 1.0


PREFERRED = {"phone": "tflite-int8", "board": "onnx-int8"}


def test_the_worst_first_variant_is_held_to_the_limit() -> None:
    variants = [Measured("tflite-int8", 90), Measured("onnx-int8", 120), Measured("onnx-fp32", 900)]
    verdict = check_budget(Budget(max_bytes=110), variants, PREFERRED)
    assert not verdict.met
    (item,) = verdict.items
    assert (item.name, item.limit, item.value, item.met, item.variant) == ("max_bytes", 110, 120, False, "onnx-int8")


def test_a_limit_that_is_just_reached_is_met() -> None:
    variants = [Measured("tflite-int8", 90, 0.01, 5.0), Measured("onnx-int8", 120, -0.5, 2.0)]
    verdict = check_budget(Budget(max_bytes=120, max_metric_drop=0.01, max_p90_ms=5.0), variants, PREFERRED)
    assert verdict.met
    assert [item.name for item in verdict.items] == ["max_metric_drop", "max_bytes", "max_p90_ms"]


def test_one_limit_that_is_not_met_is_enough() -> None:
    variants = [Measured("tflite-int8", metric_drop=0.02)]
    verdict = check_budget(Budget(max_bytes=1000, max_metric_drop=0.01), variants, {"phone": "tflite-int8"})
    assert [item.met for item in verdict.items] == [False, True]
    assert not verdict.met


def test_what_was_not_measured_does_not_meet_a_limit() -> None:
    variants = [Measured("tflite-int8", p90_ms=0.1), Measured("onnx-int8", p90_ms=None)]
    verdict = check_budget(Budget(max_p90_ms=5.0), variants, PREFERRED)
    assert not verdict.met
    assert verdict.items[0].value is None
    assert verdict.items[0].variant == "onnx-int8"


def test_no_limits_are_met() -> None:
    verdict = check_budget(Budget(), [Measured("tflite-int8", 10**9)], {"phone": "tflite-int8"})
    assert verdict.met
    assert verdict.items == ()


def test_a_limit_below_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget max_metric_drop is -0.1, expected 0 or more"):
        Budget(max_metric_drop=-0.1)

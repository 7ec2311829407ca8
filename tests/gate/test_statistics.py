from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gate_simulation import WORLDS, gate_session, pairs_of
from edgekit.errors import ConfigError
from edgekit.gate import FAIL, INCONCLUSIVE, LEAST_FLOOR, PASS, Estimate, GateSettings, estimate, judge
from edgekit.gate.statistics import floor_of


def test_an_estimate_of_pairs() -> None:
    found = estimate([10.0, 11.0, 9.0, 10.0, 10.0], [11.0, 12.1, 9.9, 11.0, 11.0], GateSettings())
    assert found == Estimate(pytest.approx(1.1), pytest.approx(1.1), pytest.approx(1.1), 5)
    assert found.slowdown == pytest.approx(0.1)


def test_drift_that_both_of_a_pair_share_counts_for_nothing() -> None:
    baseline = 10 * np.linspace(1, 2, 12)
    found = estimate(baseline, baseline * 1.03, GateSettings())
    assert (found.lower, found.upper) == (pytest.approx(1.03), pytest.approx(1.03))


def test_one_hiccup_does_not_move_it() -> None:
    candidate = np.full(10, 10.0)
    candidate[3] = 100.0
    assert estimate(np.full(10, 10.0), candidate, GateSettings()).ratio == pytest.approx(1.0)


def test_the_same_samples_give_the_same_bounds() -> None:
    draw = np.random.default_rng(1)
    pairs = draw.normal(10, 1, (2, 10))
    assert estimate(*pairs, GateSettings()) == estimate(*pairs, GateSettings())


@pytest.mark.parametrize(
    ("ratio", "lower", "upper", "verdict"),
    [
        (1.10, 1.06, 1.14, FAIL),
        (1.04, 1.03, 1.049, PASS),  # slower for certain, and allowed
        (1.04, 1.03, 1.06, INCONCLUSIVE),  # the estimate is within the budget, the bound is not
        (1.08, 1.01, 1.15, INCONCLUSIVE),  # within the device's floor
        (1.00, 0.90, 1.10, INCONCLUSIVE),
        (0.80, 0.75, 0.85, PASS),
    ],
)
def test_verdicts(ratio: float, lower: float, upper: float, verdict: str) -> None:
    assert judge(Estimate(ratio, lower, upper, 10), GateSettings()) == verdict


def test_a_floor_is_at_least_two_percent_and_grows_with_noise() -> None:
    draw = np.random.default_rng(0)
    quiet, noisy = (10 * np.exp(sd * draw.standard_normal((2, 20))) for sd in (0.001, 0.3))
    assert floor_of(*quiet, GateSettings()) == LEAST_FLOOR
    assert floor_of(*noisy, GateSettings()) > 0.03


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budget": -0.1}, "budget is a fraction of 0 or more, got -0.1"),
        ({"floor": 20}, "floor is a fraction of 0 or more, got 20; for 5 % write 0.05"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"pairs": 4}, "4 pairs and 40 at most, expected 5 or more"),
        ({"pairs": 50}, "50 pairs and 40 at most"),
        ({"budget": float("nan")}, "budget is a fraction"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GateSettings(**settings)  # type: ignore[arg-type]


class TestSimulation:
    """A few sessions of the simulation whose many are in docs/latency-gate.md; its seeds are fixed."""

    @pytest.mark.parametrize("world", WORLDS[:3], ids=lambda world: world.name)
    def test_no_alarm_without_a_slowdown_and_ten_percent_are_caught(self, world: object) -> None:
        draw = np.random.default_rng(7)
        for slowdown, wrong in ((0.0, FAIL), (0.10, PASS)):
            verdicts = [gate_session(*pairs_of(world, 40, slowdown, draw), GateSettings())[0] for _ in range(12)]  # type: ignore[arg-type]
            assert verdicts.count(wrong) == 0
            assert verdicts.count(INCONCLUSIVE) <= 1

from __future__ import annotations

from edgekit.budgets import Budget
from edgekit.search.figures import STEP, Limits, cost, dominates, front, in_steps
from tests.search.trials import LIMITS, trial

PLAIN = trial(0)


def test_the_front_is_what_nothing_dominates() -> None:
    small, fast, worse = trial(1, 0.005, 200, 0.9), trial(2, 0.005, 300, 0.5), trial(3, 0.006, 300, 0.5)
    assert front([PLAIN, small, fast, worse], "file") == [PLAIN, small, fast]


def test_of_equal_trials_the_front_has_the_first() -> None:
    assert front([trial(0), trial(1)], "file") == [trial(0)]


def test_noise_of_less_than_a_step_does_not_make_a_front() -> None:
    assert in_steps(1.0) == in_steps(1.02) == 1.0
    assert in_steps(1.04) == STEP
    assert front([trial(0, size=500, ratio=0.5), trial(1, size=501, ratio=0.499)], "file") == [trial(0, ratio=0.5)]


def test_packed_bytes_count_when_they_are_meant() -> None:
    zeros = trial(1, size=500, packed_bytes=100)
    assert front([PLAIN, zeros], "packed") == [zeros]
    assert front([PLAIN, zeros], "file") == [PLAIN]
    assert cost(zeros, PLAIN, "packed") == 0.4


def test_dominates() -> None:
    assert dominates((1, 1), (1, 2))
    assert not dominates((1, 1), (1, 1))
    assert not dominates((1, 3), (2, 1))


def test_limits_that_are_met_and_missed() -> None:
    assert LIMITS.met(PLAIN)
    missing = trial(1, 0.02, 1500)
    assert [item.name for item in LIMITS.items(missing) if not item.met] == ["max_metric_drop", "max_bytes"]
    assert LIMITS.met(missing, but=["max_metric_drop", "max_bytes"])
    assert LIMITS.excess(missing) == 1.0 + 0.5


def test_memory_that_was_not_measured_does_not_meet_its_limit() -> None:
    limits = Limits(Budget(), max_peak_rss_bytes=100)
    assert limits.needs_memory
    assert not limits.met(PLAIN)
    assert limits.met(trial(1, peak_rss_bytes=100))
    assert not limits.met(trial(1, peak_rss_bytes=101))


def test_a_limit_of_zero_can_be_missed() -> None:
    assert Limits(Budget(max_metric_drop=0.0)).excess(trial(1, 0.02)) == 2.0

from __future__ import annotations

from edgekit.budgets import Budget
from edgekit.search.choosing import choose
from edgekit.search.figures import Limits
from tests.search.trials import LIMITS, trial

PLAIN = trial(0)


def test_the_least_cost_within_the_budgets_is_chosen_and_said_why() -> None:
    better, cheapest = trial(1, 0.004, 250, 0.5), trial(2, 0.02, 100, 0.2)
    choice = choose([PLAIN, better, cheapest], PLAIN, LIMITS, "file")
    assert choice.chosen == better
    assert choice.front == (PLAIN, better, cheapest)
    assert choice.why == (
        "full-1 has the least bytes × latency (0.250 of the plain file's) of 2 recipes that meet the budgets "
        "(max_metric_drop: 0.004 of 0.01; max_bytes: 250 of 1,000). "
        "full-2 would cost 0.040 and misses max_metric_drop: 0.02 of 0.01"
    )


def test_of_equal_cost_the_better_metric() -> None:
    assert choose([trial(0, 0.005), trial(1, 0.001)], PLAIN, LIMITS, "file").chosen == trial(1, 0.001)


def test_budgets_that_nothing_meets_name_the_nearest_and_what_binds() -> None:
    limits = Limits(Budget(max_metric_drop=0.01, max_bytes=400, max_p90_ms=9.0))
    small, good = trial(1, 0.05, 300), trial(2, 0.0, 410)
    choice = choose([PLAIN, small, good], PLAIN, limits, "file")
    assert choice.chosen is None
    assert choice.nearest == (good, PLAIN, small)
    assert choice.binding == ("max_metric_drop", "max_bytes")
    assert choice.why == "none of 3 recipes meets the budgets; the nearest, full-2, misses max_bytes: 410 of 400"


def test_where_no_single_budget_binds_those_that_the_nearest_misses() -> None:
    limits = Limits(Budget(max_metric_drop=0.01, max_bytes=400))
    choice = choose([trial(0, 0.02, 500), trial(1, 0.05, 900)], PLAIN, limits, "file")
    assert choice.binding == ("max_metric_drop", "max_bytes")

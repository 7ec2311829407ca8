from __future__ import annotations

from dataclasses import replace

from edgekit.budgets import Budget
from edgekit.search.figures import FULL, Figures, Limits
from edgekit.search.promotion import for_finals, for_training, rounds, spread, survivors
from tests.search.trials import LIMITS, trial

PLAIN = trial(0)


def test_a_third_goes_on_and_never_fewer_than_the_finalists() -> None:
    assert survivors(40, 5) == 14
    assert survivors(6, 5) == 5


def test_untrained_recipes_go_on_from_all_over_the_front() -> None:
    trials = [trial(index, 0.1 * index, 500 - 10 * index, 1.0) for index in range(9)]
    assert [item.number for item in for_training(trials, 3, LIMITS, "file")] == [0, 4, 8]


def test_the_second_front_fills_up_and_nothing_goes_on_twice() -> None:
    trials = [PLAIN, trial(1, 0.1, 600), trial(2, 0.2, 700), trial(3, 0.0, 500, key="key-0")]
    assert [item.number for item in for_training(trials, 4, LIMITS, "file")] == [0, 1, 2]


def test_what_training_cannot_mend_stays_behind() -> None:
    assert for_training([trial(0, size=1001), trial(1, size=5000)], 2, LIMITS, "file") == []


# A ladder: the cost of trial n is (9 - n) / 10 of the plain file's, and its drop after a short training n points.
LADDER = [trial(number, 0.01 * number, 1000 - 100 * number) for number in range(1, 8)]


def _next(bearable: float, tried: list[int], count: int) -> list[int]:
    """Who comes after those numbers, when a full training brings back all of a drop up to `bearable`."""
    trained = [(LADDER[number - 1], _in_full(LADDER[number - 1], bearable)) for number in tried]
    return [item.number for item in for_finals(LADDER, trained, count, LIMITS, trial(0, size=1000), "file")]


def _in_full(short: Figures, bearable: float) -> Figures:
    return replace(short, rung=FULL, metric_drop=0.0 if short.metric_drop <= bearable else short.metric_drop)


def test_finals_begin_in_the_middle_of_the_ladder() -> None:
    assert _next(0.0, [], 1) == [4]
    assert _next(0.0, [], 2) == [3, 5]


def test_finals_go_on_beyond_what_was_met() -> None:
    assert _next(0.045, [4], 1) == [6]
    assert _next(0.045, [4, 6], 1) == [5]


def test_finals_go_back_where_nothing_was_met() -> None:
    assert _next(0.025, [4], 1) == [2]
    assert _next(0.025, [4, 2], 1) == [3]


def test_when_the_edge_is_found_the_rest_goes_to_what_would_cost_less() -> None:
    assert _next(0.045, [4, 6, 5], 2) == [7]


def test_no_finalist_costs_more_than_one_that_met_the_limits() -> None:
    assert _next(1.0, [7], 3) == []


def test_a_final_that_is_only_too_slow_does_not_send_the_search_back_to_dearer_ones() -> None:
    limits = Limits(Budget(max_metric_drop=0.01, max_p90_ms=1.0))
    slow = replace(LADDER[3], rung=FULL, metric_drop=0.0, p90_ms=1.01)
    able = [replace(item, p90_ms=0.9) for item in LADDER]
    chosen = for_finals(able, [(able[3], slow)], 1, limits, trial(0, 1.0, size=1000), "file")
    assert [item.number for item in chosen] == [5]


def test_a_failure_before_what_was_met_ends_nothing() -> None:
    trained = [(LADDER[0], replace(LADDER[0], rung=FULL)), (LADDER[3], _in_full(LADDER[3], 1.0))]
    chosen = for_finals(LADDER, trained, 1, LIMITS, trial(0, size=1000), "file")
    assert [item.number for item in chosen] == [6]


def test_a_final_that_could_not_be_built_says_nothing() -> None:
    chosen = for_finals(LADDER, [(LADDER[3], None)], 1, LIMITS, trial(0, size=1000), "file")
    assert [item.number for item in chosen] == [5]


def test_what_is_off_the_ladder_comes_last() -> None:
    dear = trial(20, 0.02, 900)
    chosen = for_finals([*LADDER, dear], [], 8, LIMITS, trial(0, size=1000), "file")
    assert [item.number for item in chosen] == [*range(1, 8), 20]


def test_finals_leave_out_what_training_cannot_mend() -> None:
    assert for_finals([trial(1, size=1001)], [], 1, LIMITS, trial(0, size=1000), "file") == []


def test_the_rounds_of_the_finals() -> None:
    assert [rounds(count) for count in (1, 2, 5, 8)] == [[1], [1, 1], [2, 2, 1], [3, 3, 2]]


def test_spread() -> None:
    trials = [trial(index) for index in range(5)]
    assert [item.number for item in spread(trials, 3)] == [0, 2, 4]
    assert [item.number for item in spread(trials, 1)] == [2]
    assert spread(trials, 9) == trials

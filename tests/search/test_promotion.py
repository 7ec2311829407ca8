from __future__ import annotations

from edgekit.search.promotion import for_finals, for_training, spread, survivors
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


def test_finals_are_for_those_that_training_may_bring_back() -> None:
    keeping = [trial(index, 0.001 * index, 500 - 10 * index) for index in range(6)]
    near = [trial(10 + index, 0.02 * (1 + index), 300) for index in range(5)]
    dear = trial(20, 0.02, 900)
    chosen = for_finals([*keeping, *near, dear], 5, LIMITS, PLAIN, "file")
    assert [item.number for item in chosen] == [5, 10, 11, 12, 13]


def test_finals_without_any_that_keeps_the_metric() -> None:
    trials = [trial(0, 0.05), trial(1, 0.03)]
    assert [item.number for item in for_finals(trials, 1, LIMITS, PLAIN, "file")] == [1]


def test_finals_where_all_keep_it() -> None:
    trials = [trial(index, 0.0, 500 - index) for index in range(4)]
    assert [item.number for item in for_finals(trials, 3, LIMITS, PLAIN, "file")] == [3, 2, 1]


def test_spread() -> None:
    trials = [trial(index) for index in range(5)]
    assert [item.number for item in spread(trials, 3)] == [0, 2, 4]
    assert [item.number for item in spread(trials, 1)] == [2]
    assert spread(trials, 9) == trials

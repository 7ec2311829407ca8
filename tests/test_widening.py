"""The search alone, on sets whose merit is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgekit.widening import Attempt, Layers, fewest, leading, reduced

GROUPS = tuple((f"layer{place}", f"reader{place}") for place in range(20))


class Tried:
    """Attempts whose goal `meets` decides; they are counted."""

    def __init__(self, meets: Callable[[set[str]], bool]) -> None:
        self.meets = meets
        self.sets: list[Layers] = []

    def __call__(self, layers: Layers) -> Attempt:
        self.sets.append(layers)
        return Attempt("fp32", layers, 0.0, self.meets(set(layers)), 0, file=None)


@pytest.mark.parametrize("needed", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 20])
def test_the_fewest_groups_that_meet(needed: int) -> None:
    tried = Tried(lambda layers: f"layer{needed - 1}" in layers)
    count, found = fewest(GROUPS, tried)
    assert (count, found.layers, found.met) == (needed, leading(GROUPS, needed), True)
    assert len(tried.sets) <= 10  # doubling and bisection, not one after the other


def test_when_all_groups_do_not_meet() -> None:
    tried = Tried(lambda layers: False)
    assert fewest(GROUPS, tried) is None
    assert tried.sets[-1] == leading(GROUPS, 20)


def test_a_layer_of_several_groups_counts_once() -> None:
    assert leading([("a", "b"), ("b", "c"), ("d",)], 2) == ("a", "b", "c")


def test_what_is_not_needed_is_left_out_the_heaviest_first() -> None:
    """`a` alone will do, and so will `b` with `c`: the lighter of the two is found."""
    tried = Tried(lambda layers: "a" in layers or {"b", "c"} <= layers)
    weights = {"a": 900, "b": 20, "c": 10, "d": 500}
    found = reduced(tried(("a", "b", "c", "d")), tried, weights)
    assert found.layers == ("b", "c")


def test_the_last_layer_stays() -> None:
    tried = Tried(lambda layers: True)
    assert len(reduced(tried(("a", "b")), tried, {"a": 1, "b": 2}).layers) == 1
    assert () not in tried.sets

from __future__ import annotations

import numpy as np
import pytest

from edgekit import Prune
from edgekit.compression.sparsity_patterns import kept, layer_adaptive, least


def test_the_smallest_go_and_ties_are_broken_by_position() -> None:
    scores = np.array([[3.0, 0.5], [0.5, 2.0], [0.5, 1.0]])
    assert least(scores, 3).tolist() == [[False, True], [True, False], [True, False]]
    assert least(scores, 2).tolist() == [[False, True], [True, False], [False, False]]
    assert not least(scores, 0).any()
    assert least(scores, 6).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_least_of_a_kernel_that_is_pruned_already(dtype: type) -> None:
    scores = np.random.default_rng(0).random(40).astype(dtype)
    scores[::3], scores[1::5] = 0, -1
    order = np.argsort(scores, kind="stable")
    for count in range(41):
        assert set(np.flatnonzero(least(scores, count))) == set(order[:count])


def test_layer_adaptive_scores_are_those_of_the_paper() -> None:
    scores = np.array([[1.0, 3.0], [2.0, -1.0]])
    expected = [[1 / (9 + 4 + 1), 1.0], [4 / (9 + 4), -1.0]]
    np.testing.assert_allclose(layer_adaptive(scores), expected)
    np.testing.assert_allclose(layer_adaptive(scores[:, :1] * 1e-9), layer_adaptive(scores[:, :1]))


def test_a_pattern_rises_with_the_sparsity() -> None:
    scores = np.arange(1, 17, dtype=np.float32).reshape(8, 2)
    step = Prune(pattern="1:4")
    for sparsity, left in ((0.0, 4), (0.25, 3), (0.5, 2), (0.75, 1)):
        (mask,) = kept([scores], step, sparsity)
        assert mask.reshape(2, 4, 2).sum(axis=1).tolist() == [[left, left], [left, left]]
        assert mask[-left % 4 : 4].all()


def test_blocks_are_ranked_by_their_norm() -> None:
    scores = np.array([[1, 1, 9, 0], [1, 1, 0, 0], [5, 5, 2, 2], [5, 5, 2, 2]], np.float32)
    (mask,) = kept([scores], Prune(0.5, pattern="2x2"), 0.5)
    assert mask.tolist() == [[False, False, True, True]] * 2 + [[True, True, False, False]] * 2


def test_what_is_zero_for_good_goes_first() -> None:
    scores = np.array([[-1.0, 0.0], [0.0, 0.5]], np.float32)
    for scope in ("layer", "global"):
        (mask,) = kept([scores], Prune(0.25, scope=scope), 0.25)  # type: ignore[arg-type]
        assert mask.tolist() == [[False, True], [True, True]]


def test_under_global_scope_each_kernel_keeps_its_best() -> None:
    small, large = np.full((2, 2), 1e-6, np.float32), np.full((4, 4), 5.0, np.float32)
    for importance in ("magnitude", "taylor"):
        step = Prune(0.95, scope="global", importance=importance)  # type: ignore[arg-type]
        masks = kept([small, large], step, 0.95)
        assert [int(mask.sum()) for mask in masks] == [1, 1]  # the target would leave one weight in all


def test_taylor_terms_are_compared_as_they_are() -> None:
    step = Prune(0.5, scope="global", importance="taylor")
    masks = kept([np.full((2, 2), 1.0), np.full((2, 2), 2.0)], step, 0.5)
    assert [int(mask.sum()) for mask in masks] == [1, 3]


@pytest.mark.parametrize("size", [7, 1000])
def test_counts_are_rounded(size: int) -> None:
    scores = np.random.default_rng(0).random((size, 1), np.float32)
    (mask,) = kept([scores], Prune(0.33), 0.33)
    assert int((~mask).sum()) == round(0.33 * size)

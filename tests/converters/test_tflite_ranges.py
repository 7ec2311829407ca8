from __future__ import annotations

import numpy as np
import pytest

from edgekit.ranges import BINS, entropy_limit, mse_range, percentile_range


@pytest.fixture(scope="module")
def outliers():
    """A normal distribution with a hundred values far out."""
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0, 1, 1_000_000), np.full(100, 40.0)])
    return values, *np.histogram(values, BINS)


def quantized(values, low, high, bits=8):
    step = (high - low) / (2**bits - 1)
    return np.clip(np.round((values - low) / step), 0, 2**bits - 1) * step + low


def test_a_percentile_leaves_out_what_it_says(outliers):
    values, counts, edges = outliers
    low, high = percentile_range(counts, edges, 99.9)
    assert np.mean(values < low) <= 0.001
    assert np.mean(values > high) <= 0.001
    assert high < 4


def test_all_of_the_values_are_the_extremes(outliers):
    values, counts, edges = outliers
    assert percentile_range(counts, edges, 100) == pytest.approx((values.min(), values.max()))


def test_mse_is_better_than_the_extremes_and_than_a_percentile(outliers):
    values, counts, edges = outliers
    error = {
        name: np.mean(np.square(values - quantized(values, *ends)))
        for name, ends in {
            "mse": mse_range(counts, edges, 8),
            "extremes": (edges[0], edges[-1]),
            "percentile": percentile_range(counts, edges, 99.9),
        }.items()
    }
    assert error["mse"] < min(error["extremes"], error["percentile"])


def test_sixteen_bits_clip_less(outliers):
    _, counts, edges = outliers
    assert mse_range(counts, edges, 16)[1] > 0.99 * edges[-1] > mse_range(counts, edges, 4)[1]


def test_values_above_zero_keep_zero_in_range():
    counts, edges = np.histogram(np.random.default_rng(0).gamma(2, 1, 10_000), BINS)
    low, high = mse_range(counts, edges, 8)
    assert low <= edges[0] + 1e-6
    assert 0 < high <= edges[-1]


def test_the_entropy_keeps_what_most_values_need():
    counts, edges = np.histogram(np.concatenate([np.abs(np.random.default_rng(3).normal(0, 1, 100_000)), [40.0]]), BINS)
    assert 2 < entropy_limit(counts, edges) < 10
    counts, edges = np.histogram(np.random.default_rng(0).uniform(0, 1, 100_000), BINS, range=(0, 1))
    assert entropy_limit(counts, edges) > 0.98

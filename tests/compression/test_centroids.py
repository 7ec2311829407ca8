from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.compression.centroids import centroids, nearest

WAYS = ("kmeans++", "linear", "density")


@pytest.mark.parametrize("way", WAYS)
def test_well_separated_heaps_are_found(way: Any) -> None:
    generator = np.random.default_rng(0)
    heaps = np.concatenate([generator.normal(middle, 0.01, (50, 20)) for middle in (-3, 0.5, 4, 9)])
    found = centroids(heaps.astype(np.float32), 4, way, seed=1)
    np.testing.assert_allclose(found, [-3, 0.5, 4, 9], atol=0.01)


@pytest.mark.parametrize("way", WAYS)
def test_each_centroid_is_the_mean_of_the_numbers_next_to_it(way: Any) -> None:
    numbers = np.random.default_rng(0).normal(0, 1, 5000).astype(np.float32)
    found = centroids(numbers, 8, way, seed=0)
    members = nearest(numbers, found)
    assert found.size == 8
    for index, centroid in enumerate(found):
        assert centroid == pytest.approx(numbers[members == index].mean(), abs=1e-4)
    np.testing.assert_array_equal(members, np.abs(numbers[:, None] - found).argmin(axis=1))


def test_a_general_k_means_finds_nothing_much_better() -> None:
    from sklearn.cluster import KMeans

    numbers = np.random.default_rng(0).normal(0, 1, 2000).astype(np.float32)
    found = centroids(numbers, 16, "kmeans++", seed=0)
    loss = np.square(numbers - found[nearest(numbers, found)]).sum()
    other = KMeans(16, n_init=1, random_state=0).fit(numbers[:, None]).inertia_
    assert loss < 1.15 * other


def test_more_centroids_than_numbers() -> None:
    assert centroids(np.array([2.0, 1.0, 2.0], np.float32), 5, "kmeans++", seed=0).tolist() == [1.0, 2.0]
    assert centroids(np.array([3.0], np.float32), 2, "linear", seed=0).tolist() == [3.0]


def test_a_seed_decides() -> None:
    numbers = np.random.default_rng(0).normal(0, 1, 500).astype(np.float32)
    first, same, other = (centroids(numbers, 16, "kmeans++", seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)

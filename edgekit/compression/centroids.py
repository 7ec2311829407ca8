"""k-means of numbers: exact and fast, because numbers can be sorted.

A general k-means looks at every number in every round, and adds up in an order that threads decide; here a round is one
search for each border between two centroids, and two runs agree bit for bit.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgekit.tensors import Array

Initialization = Literal["kmeans++", "linear", "density"]

_ROUNDS = 300
_SEEN = 16_384  # numbers that the first centroids are drawn from, spread evenly over the sorted ones


def centroids(numbers: Array, count: int, initialization: Initialization, seed: int) -> Array:
    """At most `count` centroids of any array of numbers, float32, ascending and distinct (Lloyd 1982).

    The first ones are drawn far from each other ("kmeans++", Arthur & Vassilvitskii 2007), or lie evenly over the range
    ("linear") or over the numbers ("density"), as in Han et al. 2016, section 3.2.
    """
    ordered = np.sort(numbers, axis=None).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    found = np.unique(_first(ordered, count, initialization, seed))
    for _ in range(_ROUNDS):
        ends = np.concatenate([[0], np.searchsorted(ordered, _borders(found)), [ordered.size]])
        members = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(1, members)
        moved = means[members > 0]
        if np.array_equal(moved, found):
            break
        found = moved
    return np.unique(found.astype(np.float32))


def nearest(numbers: Array, values: Array) -> Array:
    """For each number the index of the nearest of the ascending values, int32, of the numbers' shape."""
    found: Array = np.searchsorted(_borders(values.astype(np.float64)), numbers).astype(np.int32)
    return found


def _borders(values: Array) -> Array:
    middles: Array = (values[:-1] + values[1:]) / 2
    return middles


def _first(ordered: Array, count: int, initialization: Initialization, seed: int) -> Array:
    if initialization == "linear":
        return np.linspace(ordered[0], ordered[-1], count)
    if initialization == "density":
        places = (np.arange(count) + 0.5) / count * ordered.size
        chosen: Array = ordered[places.astype(int)]
        return chosen
    seen = ordered[np.linspace(0, ordered.size - 1, min(_SEEN, ordered.size)).astype(int)]
    generator = np.random.default_rng(seed)
    drawn = [seen[generator.integers(seen.size)]]
    distances = np.square(seen - drawn[0])
    while len(drawn) < count and distances.any():
        drawn.append(seen[generator.choice(seen.size, p=distances / distances.sum())])
        distances = np.minimum(distances, np.square(seen - drawn[-1]))
    return np.array(drawn)

"""Batches of permuted rows, read a few at a time: the data is never copied as a whole, and may be memory-mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any  # Any: what a keras model is called with, and a tf.data.Dataset

import numpy as np

from edgekit.compression.collectives import Team
from edgekit.loading import import_keras
from edgekit.tensors import Array

_READ_BYTES = 16 << 20  # at a time: each call of Python from tf.data's own thread costs as much as a small batch

Row = Callable[[Array], Any]  # row numbers -> (what the model is called with, its targets)


class Batches:
    """A `tf.data.Dataset` of batches, in an order that can be changed between two passes over it."""

    def __init__(self, read: Row, rows: Array, batch_size: int, team: Team | None = None) -> None:
        """`read` gives the samples of some rows; every worker of a team takes its share of each batch."""
        import tensorflow as tf

        self._read, self._rows, self._order, self._batch_size, self._team = read, rows, rows, batch_size, team
        tree, sample = import_keras().tree, read(rows[:1])
        spec = tree.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), sample)
        made = tf.data.Dataset.from_generator(self._portions, output_signature=spec)
        self._portion = batch_size
        if team is None:
            batch_bytes = batch_size * sum(array.nbytes for array in tree.flatten(sample))
            self._portion *= max(1, _READ_BYTES // batch_bytes)
            made = made.rebatch(batch_size)
        self.dataset = made.apply(tf.data.experimental.assert_cardinality(len(self))).prefetch(2)

    def __len__(self) -> int:
        """Batches in one pass."""
        return -(-len(self._rows) // self._batch_size)

    def reorder(self, seed: int, epoch: int) -> None:
        """The order of the next pass: a function of seed and epoch alone."""
        self._order = self._rows[np.random.default_rng([seed, epoch]).permutation(len(self._rows))]

    def samples(self, batch: int) -> int:
        """Samples of one batch, all workers together."""
        return min(self._batch_size, len(self._rows) - batch * self._batch_size)

    def _portions(self) -> Iterator[Any]:
        """Several batches at a time; for a worker of a team, its share of one."""
        order = self._order
        for start in range(0, len(order), self._portion):
            rows = order[start : start + self._portion]
            yield self._read(rows if self._team is None else self._team.share(rows))


def reader(
    inputs: Mapping[str, Array], pack: Callable[[Mapping[str, Array]], Any], targets: Callable[[Array], tuple[Any, ...]]
) -> Row:
    """Reads rows of inputs and targets in the structure that `model.fit` takes."""

    def read(rows: Array) -> Any:
        wanted = targets(rows)
        features = pack({name: column[rows] for name, column in inputs.items()})
        if isinstance(features, list):
            features = tuple(features)  # to tf.data a list is one array; to Keras both are several inputs
        return features, wanted[0] if len(wanted) == 1 else wanted

    return read


def held_back(samples: int, fraction: float, seed: int) -> tuple[Array, Array]:
    """(rows to train on, rows to watch), both ascending; the same split for the same seed in every step."""
    rows = np.random.default_rng([seed, samples]).permutation(samples)
    count = round(fraction * samples)
    return np.sort(rows[count:]), np.sort(rows[:count])

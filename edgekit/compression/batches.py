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
    """`tf.data.Dataset`s of batches of some rows."""

    def __init__(self, read: Row, rows: Array, batch_size: int, team: Team | None = None) -> None:
        """`read` gives the samples of some rows; every worker of a team takes its share of each batch."""
        self._read, self._rows, self._batch_size, self._team = read, rows, batch_size, team

    def __len__(self) -> int:
        """Batches in one pass."""
        return -(-len(self._rows) // self._batch_size)

    def in_order(self) -> Any:
        """One pass over the rows as they are."""
        return self._dataset(1, lambda _number: self._rows)

    def shuffled(self, seed: int, epochs: range) -> Any:
        """Pass after pass, each in an order that is a function of the seed and the epoch alone."""

        def order(number: int) -> Array:
            return self._rows[np.random.default_rng([seed, epochs[number]]).permutation(len(self._rows))]

        return self._dataset(len(epochs), order)

    def samples(self, batch: int) -> int:
        """Samples of one batch, all workers together."""
        return min(self._batch_size, len(self._rows) - batch * self._batch_size)

    def _dataset(self, passes: int, order: Callable[[int], Array]) -> Any:
        """So many passes; `order` gives the rows of each by its number."""
        import tensorflow as tf

        tree, sample = import_keras().tree, self._read(self._rows[:1])
        spec = tree.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), sample)
        at_a_time = self._batch_size
        if self._team is None:
            batch_bytes = at_a_time * sum(array.nbytes for array in tree.flatten(sample))
            at_a_time *= max(1, _READ_BYTES // batch_bytes)

        def portions() -> Iterator[Any]:
            for number in range(passes):
                ordered = order(number)
                for start in range(0, len(ordered), at_a_time):
                    rows = ordered[start : start + at_a_time]
                    yield self._read(rows if self._team is None else self._team.share(rows))

        def batches(*portion: Any) -> Any:
            return tf.data.Dataset.from_tensors(portion).rebatch(self._batch_size)

        made = tf.data.Dataset.from_generator(portions, output_signature=spec).prefetch(2)
        if at_a_time > self._batch_size:
            made = made.flat_map(batches)
        return made.apply(tf.data.experimental.assert_cardinality(passes * len(self)))


def reader(
    inputs: Mapping[str, Array], pack: Callable[[Mapping[str, Array]], Any], targets: Callable[[Array], tuple[Any, ...]]
) -> Row:
    """Reads rows of inputs and targets in the structure that `model.fit` takes."""

    def read(rows: Array) -> Any:
        wanted = targets(rows)
        features = pack({name: column.take(rows, axis=0) for name, column in inputs.items()})
        if isinstance(features, list):
            features = tuple(features)  # to tf.data a list is one array; to Keras both are several inputs
        return features, wanted[0] if len(wanted) == 1 else wanted

    return read


def held_back(samples: int, fraction: float, seed: int) -> tuple[Array, Array]:
    """(rows to train on, rows to watch), both ascending; the same split for the same seed in every step."""
    rows = np.random.default_rng([seed, samples]).permutation(samples)
    count = round(fraction * samples)
    return np.sort(rows[count:]), np.sort(rows[:count])

"""Batches: every row once, in the order of seed and epoch, however many are read at a time."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.compression import batches


@pytest.mark.parametrize(("read_bytes", "most_rows"), [(1, 8), (130, 16), (1 << 20, 20)])  # a batch takes 64 bytes
def test_every_row_comes_once_in_batches_of_the_size_asked_for(
    read_bytes: int, most_rows: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batches, "_READ_BYTES", read_bytes)
    column = np.arange(25, dtype=np.float32)
    reads: list[int] = []

    def targets(rows: np.ndarray) -> tuple[np.ndarray]:
        reads.append(len(rows))
        return (column[rows] * 2,)

    read = batches.reader({"x": column}, lambda arrays: arrays["x"], targets)
    rows = np.arange(5, 25)
    made = batches.Batches(read, rows, 8)
    got = [(features.numpy(), wanted.numpy()) for features, wanted in made.shuffled(1, range(2, 4))]

    assert [len(features) for features, _ in got] == [8, 8, 4] * 2
    for epoch, passed in ((2, got[:3]), (3, got[3:])):
        order = np.concatenate([features for features, _ in passed])
        assert sorted(order) == sorted(column[rows])
        assert list(order) == list(rows[np.random.default_rng([1, epoch]).permutation(20)])
    assert all((wanted == features * 2).all() for features, wanted in got)
    assert max(reads) == most_rows


def test_held_back_rows_come_once_in_their_order() -> None:
    read = batches.reader({"x": np.arange(25)}, lambda arrays: arrays["x"], lambda rows: (rows,))
    made = batches.Batches(read, np.arange(5, 25), 8).in_order()
    assert int(made.cardinality()) == 3
    assert [row for features, _ in made for row in features.numpy()] == list(range(5, 25))

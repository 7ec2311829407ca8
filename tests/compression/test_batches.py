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
    made.reorder(seed=1, epoch=2)
    got = [(features.numpy(), wanted.numpy()) for features, wanted in made.dataset]

    assert [len(features) for features, _ in got] == [8, 8, 4]
    order = np.concatenate([features for features, _ in got])
    assert sorted(order) == sorted(column[rows])
    assert list(order) == list(rows[np.random.default_rng([1, 2]).permutation(20)])
    assert all((wanted == features * 2).all() for features, wanted in got)
    assert max(reads) == most_rows

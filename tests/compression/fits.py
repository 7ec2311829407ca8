"""What the tests of the fine-tuning loop share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.compression.task import Task, classification_loss
from edgekit.compression.training import Fit, Training

Columns = dict[str, np.ndarray]


def fit_for(model: Any, training: Training, **changes: Any) -> Fit:
    task = Task((classification_loss(model),), (training.need_data().need_labels(),))
    return replace(Fit("fine-tune", 2, 64, 1e-3, task, lambda columns: columns["image"]), **changes)


def assert_same(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


class Counter:
    """A step's own state: how many batches it has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def after_batch(self, done: int, total: int) -> None:
        self.seen += done > self.seen

    def arrays(self) -> Columns:
        return {"seen": np.array(self.seen)}

    def restore(self, arrays: Any) -> None:
        self.seen = int(arrays["seen"])


def scalars(folder: Path) -> dict[str, list[float]]:
    from tensorflow import make_ndarray
    from tensorflow.compat.v1.train import summary_iterator

    found: dict[str, list[float]] = {}
    for file in sorted(folder.iterdir()):
        for event in summary_iterator(str(file)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(float(make_ndarray(value.tensor)))
    return found

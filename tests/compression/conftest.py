from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgekit.compression.training import Training, TrainingSettings
from edgekit.data import Data
from edgekit.loading import LoadedModel
from edgekit.progress import Advance
from tests.conftest import Digits


class Interrupting:
    """Progress that records the tasks it is told of, and presses Ctrl-C after so many batches of one of them."""

    def __init__(self, task: str = "", batches: int = 0) -> None:
        self.tasks: list[str] = []
        self._task, self._batches = task, batches

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        self.tasks.append(description)
        self.done = 0

        def advance(units: int, words: str) -> None:
            self.done += units
            if self._task and description.startswith(self._task) and self.done >= self._batches:
                raise KeyboardInterrupt

        yield advance
        assert self.done == total


@pytest.fixture
def few(digits: Digits) -> dict[str, np.ndarray]:
    """Five batches of training data."""
    return digits.few(320)


@pytest.fixture
def training(few: dict[str, np.ndarray], tmp_path: Path) -> Training:
    return Training(Data({"image": few["image"]}, few["y"], "training data"), tmp_path / "checkpoints")


@pytest.fixture
def model(loaded: LoadedModel) -> Any:
    copy = keras.models.clone_model(loaded.model)
    copy.set_weights(loaded.model.get_weights())
    return copy


@pytest.fixture
def watching(training: Training) -> Training:
    """Early stopping, on a quarter of the rows."""
    return replace(training, settings=TrainingSettings(patience=2, validation_fraction=0.25))

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

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

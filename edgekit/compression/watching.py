"""Early stopping: rows that are held back say how good each epoch is, and the best epoch's weights come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any  # Any: a keras model

import numpy as np

from edgekit.compression.batches import Batches
from edgekit.compression.task import Score
from edgekit.loading import import_keras
from edgekit.tensors import Array

Parts = Callable[[], Mapping[str, Array]]


class Watch:
    """What the held-back rows said so far; its arrays belong into the checkpoint."""

    def __init__(self, model: Any, batches: Batches, rows: Array, score: Score | None, patience: int | None) -> None:
        """`model` is compiled; `batches` gives the held-back `rows` in order; without a score, the loss counts."""
        self._model, self._batches, self._rows, self._score, self._patience = model, batches, rows, score, patience
        self._best, self._stale, self._kept = -np.inf, 0, dict[str, Array]()

    @property
    def exhausted(self) -> bool:
        """True when no epoch got better for too long."""
        return self._patience is not None and self._stale >= self._patience

    @property
    def kept(self) -> Mapping[str, Array]:
        """The state of the best epoch; empty when none counts."""
        return self._kept

    def look(self) -> tuple[float, dict[str, float]]:
        """(higher is better, what to write down) of the model as it is now."""
        batches = self._batches.in_order()
        values = {"val_loss": float(self._model.evaluate(batches, verbose=0, return_dict=True)["loss"])}
        if self._score is None:
            return -values["val_loss"], values
        outputs = self._model.predict(batches, verbose=0)
        values["val_metric"] = self._score(import_keras().tree.flatten(outputs), self._rows)
        return values["val_metric"], values

    def judge(self, value: float, state: Parts) -> None:
        """Keep the state when this epoch is the best so far."""
        if value > self._best:
            self._best, self._stale = value, 0
            self._kept = {name: np.array(array) for name, array in state().items()} if self._patience else {}
        else:
            self._stale += 1

    def arrays(self) -> Mapping[str, Array]:
        """Everything that a resumed run needs."""
        return {"best": np.float64(self._best), "stale": np.int64(self._stale), **self._kept}  # type: ignore[dict-item]

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take it back."""
        kept = dict(arrays)
        self._best, self._stale = float(kept.pop("best")), int(kept.pop("stale"))
        self._kept = kept

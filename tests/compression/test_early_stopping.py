from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgekit.compression.training import Training, TrainingSettings, fine_tune
from edgekit.data import Data
from edgekit.errors import DataError
from edgekit.loading import LoadedModel
from tests.compression.conftest import Interrupting
from tests.compression.fits import Counter, assert_same, fit_for, scalars


def improving_until(best: int, log: list[float]) -> Any:
    """A metric that rises until one epoch and falls from then on."""

    def score(_outputs: Any, rows: np.ndarray) -> float:
        assert len(rows) == 80
        log.append(-abs(len(log) + 1 - best))
        return log[-1]

    return score


def test_training_stops_when_nothing_gets_better_and_the_best_weights_come_back(model: Any, watching: Training) -> None:
    log: list[float] = []
    weights: list[list[np.ndarray]] = []
    fit = fit_for(model, watching, epochs=9)
    fit = replace(fit, task=replace(fit.task, score=improving_until(3, log)))
    hook = lambda done, _: weights.append(model.get_weights()) if done and done % 4 == 0 else None  # noqa: E731
    progress = Interrupting()
    fine_tune(model, replace(fit, after_batch=hook), replace(watching, progress=progress))
    assert log == [-2, -1, 0, -1, -2]
    assert_same(model.get_weights(), weights[2])
    assert progress.done == 9 * 4


def test_only_epochs_after_the_ramp_count(model: Any, watching: Training) -> None:
    log: list[float] = []
    counter = Counter()
    fit = fit_for(model, watching, epochs=9, ramp=0.6, state=counter, after_batch=counter.after_batch)
    fine_tune(model, replace(fit, task=replace(fit.task, score=improving_until(1, log))), watching)
    assert len(log) == 8  # the sixth is the first that counts; two more bring nothing better
    assert counter.seen == 6 * 4  # and its state came back with its weights


def test_held_back_rows_are_not_trained_on(model: Any, watching: Training) -> None:
    """Their labels do not matter to the weights, and decide what early stopping keeps."""
    data = watching.need_data()
    trained: list[np.ndarray] = []

    def pack(columns: Any) -> Any:
        trained.append(columns["image"])
        return columns["image"]

    score = lambda _outputs, rows: rows_seen.append(rows) or 0.0  # noqa: E731
    rows_seen: list[np.ndarray] = []
    fit = fit_for(model, watching, epochs=1, pack=pack)
    fine_tune(model, replace(fit, task=replace(fit.task, score=score)), watching)
    (held,) = rows_seen
    assert len(held) == 80
    training_rows = next(rows for rows in trained if len(rows) > 1)  # one row is read beforehand, for its shape
    assert len(training_rows) == 240
    both = np.concatenate([training_rows, data.inputs["image"][held]])
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(data.inputs["image"], axis=0))


def test_early_stopping_goes_by_the_loss_where_no_metric_is_named(
    model: Any, watching: Training, tmp_path: Path
) -> None:
    watching = replace(watching, settings=replace(watching.settings, tensorboard=str(tmp_path / "board")))
    fine_tune(model, fit_for(model, watching, epochs=6, learning_rate=0.3), watching)
    losses = scalars(tmp_path / "board" / "fine-tune")["val_loss"]
    held = keras.losses.SparseCategoricalCrossentropy()
    from edgekit.compression.batches import held_back

    rows = held_back(320, 0.25, 0)[1]
    data = watching.need_data()
    got = float(held(data.need_labels()[rows], model.predict(data.inputs["image"][rows], verbose=0)))
    assert got == pytest.approx(min(losses), rel=1e-4)
    assert min(losses) < max(losses)


@pytest.mark.parametrize("batches", [6, 18])
def test_early_stopping_goes_on_to_the_same_bits(
    loaded: LoadedModel, watching: Training, batches: int, tmp_path: Path
) -> None:
    """Interrupted in the second epoch, and in the last."""

    def run(training: Training) -> list[np.ndarray]:
        model = keras.models.clone_model(loaded.model)
        model.set_weights(loaded.model.get_weights())
        fine_tune(model, fit_for(model, training, epochs=5, learning_rate=0.3), training)
        weights: list[np.ndarray] = model.get_weights()
        return weights

    whole = run(replace(watching, checkpoints=None))
    with pytest.raises(KeyboardInterrupt):
        run(replace(watching, progress=Interrupting("fine-tune", batches)))
    assert_same(run(watching), whole)


def test_too_few_samples_to_hold_any_back(model: Any, training: Training) -> None:
    data = Data({"image": np.zeros((3, 8, 8, 1), np.float32)}, np.zeros(3, np.int64), "training data")
    starved = replace(training, data=data, settings=TrainingSettings(patience=1))
    with pytest.raises(DataError, match=r"training data: 3 samples cannot be held back in part; give more"):
        fine_tune(model, fit_for(model, starved), starved)

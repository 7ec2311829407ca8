from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgekit.compression.training import Fit, Training, classification_loss, ends_in_softmax, fine_tune
from edgekit.data import Data
from edgekit.errors import DataError, OutputError
from edgekit.loading import LoadedModel
from tests.compression.conftest import Interrupting
from tests.disk import no_space_beyond

Columns = dict[str, np.ndarray]


@pytest.fixture
def training(few: Columns, tmp_path: Path) -> Training:
    return Training(Data({"image": few["image"]}, few["y"], "training data"), tmp_path / "checkpoints")


@pytest.fixture
def model(loaded: LoadedModel) -> Any:
    copy = keras.models.clone_model(loaded.model)
    copy.set_weights(loaded.model.get_weights())
    return copy


def fit_for(model: Any, training: Training, **changes: Any) -> Fit:
    fit = Fit("fine-tune", 2, 64, 1e-3, classification_loss(model), training.data.need_labels(), lambda c: c["image"])
    return replace(fit, **changes)


def test_weights_are_trained_and_the_model_stays_uncompiled(model: Any, training: Training) -> None:
    before = model.get_weights()
    fine_tune(model, fit_for(model, training), training)
    assert any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert not model.compiled


def test_progress_counts_every_batch(model: Any, training: Training) -> None:
    progress = Interrupting()
    fine_tune(model, fit_for(model, training), replace(training, progress=progress))
    assert progress.tasks == ["fine-tune"]
    assert progress.done == 2 * 5


def test_the_hook_sees_the_steps_from_zero_to_all(model: Any, training: Training) -> None:
    seen: list[tuple[int, int]] = []
    fit = fit_for(model, training, after_batch=lambda done, total: seen.append((done, total)))
    fine_tune(model, fit, training)
    assert seen == [(step, 10) for step in range(11)]


def test_rows_come_in_another_order_in_every_epoch(model: Any, training: Training) -> None:
    seen: list[np.ndarray] = []

    def pack(columns: Any) -> Any:
        seen.append(columns["image"])
        return columns["image"]

    fine_tune(model, fit_for(model, training, pack=pack), training)
    first, second = seen
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(second, axis=0))


def test_one_checkpoint_is_kept_and_a_finished_run_is_not_repeated(model: Any, training: Training) -> None:
    fine_tune(model, fit_for(model, training), training)
    assert training.checkpoints is not None
    assert [file.name for file in training.checkpoints.iterdir()] == ["epoch-0002.npz"]
    weights = model.get_weights()
    seen: list[int] = []
    fit = fit_for(model, training, after_batch=lambda done, _: seen.append(done))
    fine_tune(model, fit, training)
    assert seen == [10]
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_damaged_checkpoint_is_named(model: Any, training: Training) -> None:
    fine_tune(model, fit_for(model, training), training)
    assert training.checkpoints is not None
    path = training.checkpoints / "epoch-0002.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"checkpoint .*epoch-0002.npz cannot be read .*; remove it"):
        fine_tune(model, fit_for(model, training), training)


def test_a_loss_that_is_not_a_number_is_said(model: Any, training: Training) -> None:
    fit = fit_for(model, training, learning_rate=1e30)
    with pytest.raises(DataError, match=r"fine-tune: the loss became nan in epoch \d; lower the learning_rate"):
        fine_tune(model, fit, training)


def test_no_space_for_a_checkpoint(model: Any, training: Training) -> None:
    with no_space_beyond(3000), pytest.raises(OutputError, match=r"cannot write .*epoch-0001.npz"):
        fine_tune(model, fit_for(model, training), training)
    assert training.checkpoints is not None
    assert list(training.checkpoints.iterdir()) == []


def test_the_loss_fits_the_models_end() -> None:
    def ending(*layers: Any) -> Any:
        return keras.Sequential([keras.Input((3,)), *layers])

    dense = keras.layers.Dense
    assert ends_in_softmax(ending(dense(2, activation="softmax")))
    assert ends_in_softmax(ending(dense(2), keras.layers.Softmax()))
    assert ends_in_softmax(ending(dense(2), keras.layers.Activation("softmax")))
    assert not ends_in_softmax(ending(dense(2)))
    assert not ends_in_softmax(ending(dense(2, activation="sigmoid")))
    assert classification_loss(ending(dense(2))).get_config()["from_logits"]

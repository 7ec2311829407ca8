from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgekit.compression.training import Training, TrainingSettings, fine_tune
from edgekit.data import Data
from edgekit.errors import ConfigError, DataError, OutputError
from tests.compression.conftest import Interrupting
from tests.compression.fits import Counter, assert_same, fit_for, scalars
from tests.disk import below_a_file, no_space_beyond


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


def test_the_learning_rate_falls_along_a_cosine_to_zero(model: Any, training: Training, tmp_path: Path) -> None:
    settings = TrainingSettings(tensorboard=str(tmp_path / "board"))
    fine_tune(model, fit_for(model, training, epochs=4), replace(training, settings=settings))
    rates = scalars(tmp_path / "board" / "fine-tune")["learning_rate"]
    np.testing.assert_allclose(rates, [1e-3 * (1 + np.cos(np.pi * done / 4)) / 2 for done in (1, 2, 3, 4)], atol=1e-9)


def test_rows_come_in_another_order_in_every_epoch(model: Any, training: Training) -> None:
    seen: list[np.ndarray] = []

    def pack(columns: Any) -> Any:
        seen.append(columns["image"])
        return columns["image"]

    fine_tune(model, fit_for(model, training, pack=pack), training)
    first, second = [rows for rows in seen if len(rows) > 1]  # one row is read beforehand, for its shape
    assert len(first) == 320
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
    assert_same(weights, model.get_weights())


def test_a_steps_own_state_is_in_the_checkpoint(model: Any, training: Training) -> None:
    counter = Counter()
    fit = fit_for(model, training, epochs=3, state=counter, after_batch=counter.after_batch)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(model, fit, replace(training, progress=Interrupting("fine-tune", 8)))
    again = Counter()
    fine_tune(model, replace(fit, state=again, after_batch=again.after_batch), training)
    assert again.seen == 15


def test_a_damaged_checkpoint_is_named(model: Any, training: Training) -> None:
    fine_tune(model, fit_for(model, training), training)
    assert training.checkpoints is not None
    path = training.checkpoints / "epoch-0002.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"checkpoint .*epoch-0002.npz cannot be read .*; remove it"):
        fine_tune(model, fit_for(model, training), training)


def test_checkpoints_of_another_model_are_said(model: Any, training: Training) -> None:
    fine_tune(model, fit_for(model, training), training)
    image = keras.Input((8, 8, 1))
    other = keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(image)))
    with pytest.raises(DataError, match=r"the checkpoints are of another model; remove them"):
        fine_tune(other, fit_for(other, training), training)


def test_a_loss_that_is_not_a_number_is_said(model: Any, training: Training) -> None:
    fit = fit_for(model, training, learning_rate=1e30)
    with pytest.raises(DataError, match=r"fine-tune: the loss became nan in epoch \d; lower the learning_rate"):
        fine_tune(model, fit, training)


def test_no_space_for_a_checkpoint(model: Any, training: Training) -> None:
    with no_space_beyond(3000), pytest.raises(OutputError, match=r"cannot write .*epoch-0001.npz"):
        fine_tune(model, fit_for(model, training), training)
    assert training.checkpoints is not None
    assert list(training.checkpoints.iterdir()) == []


def test_statistics_stay_frozen_on_demand(model: Any, training: Training) -> None:
    frozen = replace(training, settings=TrainingSettings(frozen_statistics=True))
    statistics = [variable for variable in model.non_trainable_variables if variable.name.startswith("moving_")]
    kernels = model.trainable_variables
    before = [np.array(variable) for variable in (*statistics, *kernels)]
    fine_tune(model, fit_for(model, frozen), frozen)
    after = [np.array(variable) for variable in (*statistics, *kernels)]
    assert statistics
    assert_same(before[: len(statistics)], after[: len(statistics)])
    assert not any(
        np.array_equal(a, b) for a, b in zip(before[len(statistics) :], after[len(statistics) :], strict=True)
    )


def convolutional() -> Any:
    image = x = keras.Input((16, 16, 3), name="image")
    for width in (32, 64, 64):
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, keras.layers.Dense(10)(x))


def recurrent() -> Any:
    words = keras.Input((16, 48), name="image")
    memory = keras.layers.LSTM(64, dropout=0.2)(keras.layers.LSTM(64, return_sequences=True)(words))
    return keras.Model(words, keras.layers.Dense(10)(memory))


@pytest.mark.parametrize("build", [convolutional, recurrent])
def test_two_runs_agree_bit_for_bit(build: Any) -> None:
    keras.utils.set_random_seed(1)
    start = build().get_weights()
    generator = np.random.default_rng(0)
    shape = build().input_shape[1:]
    data = Data({"image": generator.normal(0, 1, (300, *shape)).astype("f")}, generator.integers(0, 10, 300), "data")
    results = []
    for before in (5, 6):  # whatever random state the layers were made in
        keras.utils.set_random_seed(before)
        model = build()
        model.set_weights(start)
        training = Training(data, seed=3)
        fine_tune(model, fit_for(model, training), training)
        results.append(model.get_weights())
    assert_same(*results)


def test_tensorboard_gets_a_point_for_each_epoch(model: Any, watching: Training, tmp_path: Path) -> None:
    settings = replace(watching.settings, tensorboard=str(tmp_path / "board"))
    fit = fit_for(model, watching, description="prune to 80%")
    fit = replace(fit, task=replace(fit.task, score=lambda _outputs, _rows: 0.5))
    fine_tune(model, fit, replace(watching, settings=settings))
    found = scalars(tmp_path / "board" / "prune-to-80")
    assert {name: len(points) for name, points in found.items()} == {
        "loss": 2, "learning_rate": 2, "val_loss": 2, "val_metric": 2,
    }  # fmt: skip
    assert found["val_metric"] == [0.5, 0.5]


def test_a_tensorboard_folder_that_cannot_be_written(model: Any, training: Training, tmp_path: Path) -> None:
    settings = TrainingSettings(tensorboard=str(below_a_file(tmp_path)))
    with pytest.raises(OutputError, match=r"cannot write TensorBoard files to .*; choose another folder"):
        fine_tune(model, fit_for(model, training), replace(training, settings=settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 0}, r"training.patience must be a whole number, 1 or more, got 0"),
        ({"validation_fraction": 20}, r"training.validation_fraction is a fraction in \(0, 1\), got 20; for 20 %"),
        ({"workers": 0}, r"training.workers must be a whole number, 1 or more, got 0"),
        ({"workers": 2}, r'training.workers is 2: several need engine = "multi-worker"'),
        ({"engine": "mirror"}, r"training.engine is 'mirror'; did you mean 'mirrored'\?"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingSettings(**settings)


def test_settings_are_the_same_work_when_their_losses_are_equal() -> None:
    def identity(**settings: Any) -> str:
        return TrainingSettings(**settings).identity()

    smooth = keras.losses.CategoricalCrossentropy
    assert identity(loss=smooth(label_smoothing=0.1)) == identity(loss=smooth(label_smoothing=0.1))
    assert identity(loss=smooth(label_smoothing=0.1)) != identity(loss=smooth())
    assert identity(loss="mse") != identity(loss="mae")
    assert identity(tensorboard="a") == identity()
    assert identity(patience=1) != identity()

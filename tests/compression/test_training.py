from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgekit.compression.task import Task, classification_loss
from edgekit.compression.training import Fit, Training, TrainingSettings, fine_tune
from edgekit.data import Data
from edgekit.errors import ConfigError, DataError, OutputError
from edgekit.loading import LoadedModel
from tests.compression.conftest import Interrupting
from tests.disk import below_a_file, no_space_beyond

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


def scalars(folder: Path) -> dict[str, list[float]]:
    from tensorflow import make_ndarray
    from tensorflow.compat.v1.train import summary_iterator

    found: dict[str, list[float]] = {}
    for file in sorted(folder.iterdir()):
        for event in summary_iterator(str(file)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(float(make_ndarray(value.tensor)))
    return found


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


# Early stopping


@pytest.fixture
def watching(training: Training) -> Training:
    return replace(training, settings=TrainingSettings(patience=2, validation_fraction=0.25))


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


# Mixed precision, seeds, logs


def test_mixed_precision_computes_in_half_and_keeps_float32_weights(model: Any, training: Training) -> None:
    seen: set[str] = set()
    hook = lambda _done, _total: seen.update(layer.compute_dtype for layer in model.layers[1:])  # noqa: E731
    before = model.get_weights()
    half = replace(training, settings=TrainingSettings(mixed_precision=True))
    fine_tune(model, fit_for(model, half, after_batch=hook), half)
    assert seen == {"float16", "float32"}
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert {str(weight.dtype) for weight in model.get_weights()} == {"float32"}
    moved = max(float(np.abs(a - b).max()) for a, b in zip(before, model.get_weights(), strict=True))
    assert 0 < moved < 0.5
    whole = keras.models.clone_model(model)
    whole.set_weights(before)
    fine_tune(whole, fit_for(whole, training), replace(training, checkpoints=None))
    assert any(not np.array_equal(a, b) for a, b in zip(whole.get_weights(), model.get_weights(), strict=True))
    for a, b in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=0.02)


def test_a_fit_may_insist_on_float32(model: Any, training: Training) -> None:
    seen: set[str] = set()
    hook = lambda _done, _total: seen.update(layer.compute_dtype for layer in model.layers)  # noqa: E731
    half = replace(training, settings=TrainingSettings(mixed_precision=True))
    fine_tune(model, fit_for(model, half, after_batch=hook, float32=True), half)
    assert seen == {"float32"}


def test_mixed_precision_goes_on_to_the_same_bits(loaded: LoadedModel, training: Training) -> None:
    half = replace(training, settings=TrainingSettings(mixed_precision=True))

    def run(training: Training) -> list[np.ndarray]:
        model = keras.models.clone_model(loaded.model)
        model.set_weights(loaded.model.get_weights())
        fine_tune(model, fit_for(model, training), training)
        weights: list[np.ndarray] = model.get_weights()
        return weights

    whole = run(replace(half, checkpoints=None))
    with pytest.raises(KeyboardInterrupt):
        run(replace(half, progress=Interrupting("fine-tune", 7)))
    assert_same(run(half), whole)


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

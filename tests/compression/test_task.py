from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

import edgekit
from edgekit.compression.task import (
    Task,
    classification_loss,
    ends_in_softmax,
    find_loss,
    loss_name,
    takes_class_numbers,
    task_of,
    total_loss,
    with_loss_of,
)
from edgekit.compression.training import TrainingSettings
from edgekit.data import Data
from edgekit.errors import ConfigError, DataError
from edgekit.loading import LoadedModel, describe
from tests.keras_models import pair

Columns = dict[str, np.ndarray]


@pytest.fixture
def data(few: Columns) -> Data:
    return Data({"image": few["image"]}, few["y"], "training data")


def bare(loaded: LoadedModel) -> LoadedModel:
    return replace(loaded, compiled_loss=None)


def ending(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((3,)), *layers])


def test_the_loss_fits_the_models_end() -> None:
    dense = keras.layers.Dense
    assert ends_in_softmax(ending(dense(2, activation="softmax")))
    assert ends_in_softmax(ending(dense(2), keras.layers.Softmax()))
    assert ends_in_softmax(ending(dense(2), keras.layers.Activation("softmax")))
    assert not ends_in_softmax(ending(dense(2)))
    assert not ends_in_softmax(ending(dense(2, activation="sigmoid")))
    assert classification_loss(ending(dense(2))).get_config()["from_logits"]


def test_without_a_loss_a_classifier_learns_by_cross_entropy(loaded: LoadedModel, data: Data) -> None:
    (loss,), (targets,) = (task := task_of(bare(loaded), data)).losses, task.targets
    assert isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    np.testing.assert_array_equal(targets, data.need_labels())
    with pytest.raises(DataError, match=r"training without a loss: needs a classifier with one output"):
        task_of(describe(pair()), data)
    with pytest.raises(DataError, match=r"training data: no labels"):
        task_of(bare(loaded), replace(data, labels=None))


def test_the_compiled_loss_counts_and_the_settings_loss_counts_more(loaded: LoadedModel, data: Data) -> None:
    compiled = replace(loaded, compiled_loss="mean_squared_error")
    assert loss_name(task_of(compiled, data).losses[0]) == "mean_squared_error"
    assert loss_name(task_of(compiled, data, "mean_absolute_error").losses[0]) == "mean_absolute_error"


def test_the_original_outputs_need_no_labels(loaded: LoadedModel, data: Data) -> None:
    task = task_of(loaded, replace(data, labels=None), "original-outputs")
    np.testing.assert_array_equal(task.targets[0], loaded.predict(data.inputs)["probabilities"])
    assert float(total_loss(task, task.targets, [task.targets[0]])) == pytest.approx(0, abs=1e-9)


def test_several_outputs_with_labels_are_refused(data: Data) -> None:
    with pytest.raises(DataError, match=r"labels 'y' are for one output, and the model has 2 .*original-outputs"):
        task_of(describe(pair()), data, "mean_squared_error")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("mean_squared_eror", r"unknown loss 'mean_squared_eror'; did you mean 'mean_squared_error'\?"),
        ("orignal-outputs", r"unknown loss 'orignal-outputs'; did you mean 'original-outputs'\?"),
        ("no_such_module:loss", r"loss: cannot import 'no_such_module:loss'"),
        (3, r"loss is 3, expected a Keras loss, its name, or module:function"),
    ],
)
def test_a_loss_that_nobody_knows(chosen: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_loss(chosen)


def test_which_losses_take_class_numbers(loaded: LoadedModel) -> None:
    losses = keras.losses
    assert takes_class_numbers(bare(loaded))
    assert takes_class_numbers(loaded, "sparse_categorical_crossentropy")
    assert takes_class_numbers(loaded, losses.SparseCategoricalCrossentropy())
    assert takes_class_numbers(loaded, losses.sparse_categorical_crossentropy)
    assert takes_class_numbers(bare(loaded), "SparseCategoricalCrossentropy")
    for other in ("mse", losses.MeanSquaredError(), losses.categorical_crossentropy, lambda _y, p: p):
        assert not takes_class_numbers(loaded, other)


def test_a_metric_is_measured_on_the_rows_in_question(loaded: LoadedModel, data: Data) -> None:
    score = task_of(bare(loaded), data, metric="top1").score
    assert score is not None
    rows = np.array([3, 5, 8])
    scores = np.eye(10)[data.need_labels()[rows]]
    assert score([scores], rows) == 1.0
    scores[0] = np.roll(scores[0], 1)
    assert score([scores, "an output of the training alone"], rows) == pytest.approx(2 / 3)  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"unknown metric 'top-1'"):
        task_of(bare(loaded), data, metric="top-1")
    with pytest.raises(DataError, match=r"training data: no labels"):
        task_of(loaded, replace(data, labels=None), "original-outputs", "top1")


def test_the_total_loss_weighs_its_parts() -> None:
    squared = keras.losses.MeanSquaredError()
    zeros, ones = np.zeros((4, 2), np.float32), np.ones((4, 2), np.float32)
    task = Task((squared, squared), (zeros, zeros))
    assert float(total_loss(task, task.targets, [ones, 2 * ones])) == pytest.approx(5)
    assert float(total_loss(replace(task, weights=(0.5, 2.0)), task.targets, [ones, 2 * ones])) == pytest.approx(8.5)


def test_a_result_keeps_the_loss_where_it_fits(loaded: LoadedModel) -> None:
    compiled = replace(loaded, compiled_loss="sparse_categorical_crossentropy")
    assert with_loss_of(compiled, bare(loaded)).compiled_loss == "sparse_categorical_crossentropy"
    logits = describe(ending(keras.layers.Dense(10)))
    assert with_loss_of(compiled, logits).compiled_loss is None


# What the tasks mean to a whole step


def test_a_model_of_several_inputs_and_outputs_is_trained_to_keep_its_outputs() -> None:
    model = describe(pair())
    generator = np.random.default_rng(0)
    data = {spec.name: generator.uniform(0, 1, (64, *spec.shape[1:])).astype(np.float32) for spec in model.inputs}
    settings = TrainingSettings(loss="original-outputs")
    gaps = []
    for epochs in (0, 20):
        made = edgekit.compress(
            model, edgekit.Prune(0.5, epochs=epochs, learning_rate=2e-2, batch_size=16), data=data, training=settings
        )
        before, after = model.predict(data), made.predict(data)
        gaps.append(sum(float(np.mean((before[name] - after[name]) ** 2)) for name in before))
    assert gaps[1] < 0.7 * gaps[0]


def test_labels_of_any_shape_with_a_loss_of_the_users_own(few: Columns) -> None:
    image = keras.Input((8, 8, 1), name="image")
    picture = keras.layers.Conv2D(1, 3, padding="same", name="picture")(image)
    model = keras.Model(image, picture)
    truth = np.zeros_like(few["image"])
    truth[:, 1:] = few["image"][:, :-1]  # a row further down
    settings = TrainingSettings(loss=lambda y, p: keras.ops.mean(keras.ops.square(y - p), axis=(1, 2, 3)))
    step = edgekit.Prune(0.3, epochs=20, learning_rate=3e-2)
    made = edgekit.compress(model, step, data={"image": few["image"], "y": truth}, training=settings)
    (got,) = made.predict({"image": few["image"]}).values()
    assert float(np.mean((got - truth) ** 2)) < 0.1 * float(np.mean(truth**2))


def test_a_loss_of_the_users_own_that_fails_is_said_in_one_line(
    loaded: LoadedModel, few: Columns, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_loss.py").write_text("def loss(y, p): return y.no_such_thing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = TrainingSettings(loss="broken_loss:loss")
    with pytest.raises(ConfigError, match=r"loss: 'broken_loss:loss' failed with AttributeError"):
        edgekit.compress(loaded, edgekit.Prune(0.3, epochs=1), data=few, training=settings)

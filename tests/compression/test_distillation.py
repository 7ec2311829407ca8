from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.compression.distillation import distill, narrow
from edgekit.compression.steps import Distill
from edgekit.compression.training import Training
from edgekit.data import Data
from edgekit.errors import ModelError
from edgekit.loading import LoadedModel, describe
from tests.conftest import Digits


@pytest.fixture
def training(digits: Digits) -> Training:
    return Training(Data({"image": digits.train["image"]}, digits.train["y"], "training data"))


def student(name: str = "image", *, classes: int = 10) -> Any:
    model = [keras.Input((8, 8, 1), name=name), layers.Flatten(), layers.Dense(classes, name="logits")]
    return keras.Sequential(model, name="student")


def accuracy(loaded: LoadedModel, digits: Digits) -> float:
    (scores,) = loaded.predict({"image": digits.test["image"]}).values()
    return float(np.mean(scores.argmax(axis=1) == digits.test["y"]))


def test_a_narrower_student_learns(loaded: LoadedModel, training: Training, digits: Digits) -> None:
    keras.utils.set_random_seed(0)
    made = distill(loaded, Distill(width=0.5, epochs=8, learning_rate=5e-3), training)
    assert (made.inputs, made.outputs) == (loaded.inputs, loaded.outputs)
    assert made.model.get_layer("conv").filters == 4
    assert made.model.get_layer("probabilities").units == 10
    assert accuracy(made, digits) > 0.85


def test_a_student_of_the_users_own_learns_and_is_not_changed(
    loaded: LoadedModel, training: Training, digits: Digits
) -> None:
    own = student()
    before = own.get_weights()
    made = distill(loaded, Distill(student=own, epochs=8, learning_rate=1e-2), training)
    assert made.outputs[0].name == "logits"
    assert accuracy(made, digits) > 0.85
    for weight, kept in zip(own.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_with_a_weight_of_one_only_the_teacher_is_heard(
    loaded: LoadedModel, training: Training, digits: Digits
) -> None:
    wrong = Data(training.data.inputs, np.zeros_like(training.data.need_labels()), "training data")
    step = Distill(student=student(), epochs=8, learning_rate=1e-2, weight=1.0)
    assert accuracy(distill(loaded, step, replace(training, data=wrong)), digits) > 0.8
    unheard = replace(step, weight=0.0)
    assert accuracy(distill(loaded, unheard, replace(training, data=wrong)), digits) < 0.2


def test_a_student_from_a_file(loaded: LoadedModel, training: Training, tmp_path: Path) -> None:
    student().save(tmp_path / "student.keras")
    for source in (tmp_path / "student.keras", str(tmp_path / "student.keras")):
        made = distill(loaded, Distill(student=source, epochs=1), training)
        assert made.name == "student"


def test_the_students_start_counts(loaded: LoadedModel, training: Training) -> None:
    own = student()
    own.set_weights([np.random.default_rng(0).normal(0, 1, weight.shape) for weight in own.get_weights()])
    made = distill(loaded, Distill(student=own, epochs=1, learning_rate=1e-9), training)
    for weight, start in zip(made.model.get_weights(), own.get_weights(), strict=True):
        np.testing.assert_allclose(weight, start, atol=1e-6)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (lambda: student("picture"), "takes 'picture' (batch, 8, 8, 1) float32"),
        (lambda: student(classes=9), "gives 'logits' (batch, 9) float32"),
    ],
)
def test_a_student_that_does_not_match_is_refused(
    loaded: LoadedModel, training: Training, own: Any, message: str
) -> None:
    with pytest.raises(ModelError) as caught:
        distill(loaded, Distill(student=own(), epochs=1), training)
    assert str(caught.value).startswith("Distill.student takes ")
    assert message in str(caught.value)
    assert str(caught.value).endswith(
        "expected 'image' (batch, 8, 8, 1) float32 and 'probabilities' (batch, 10) float32"
    )


def test_a_missing_student_file(loaded: LoadedModel, training: Training) -> None:
    with pytest.raises(ModelError, match=r"no model file none.keras"):
        distill(loaded, Distill(student="none.keras"), training)


def test_a_narrow_copy_keeps_its_outputs_and_at_least_one_channel() -> None:
    x = keras.Input((6, 6, 1), name="x")
    hidden = layers.Conv2D(2, 3, name="conv")(x)
    outputs = [layers.Dense(4, name="a")(layers.Flatten()(hidden)), layers.GlobalAveragePooling2D(name="b")(hidden)]
    small = narrow(keras.Model(x, outputs), 0.1)
    assert small.get_layer("conv").filters == 1
    assert small.get_layer("a").units == 4


def test_a_model_that_cannot_be_narrowed_is_refused() -> None:
    x = keras.Input((4, 4, 3), name="x")
    outputs = layers.Add()([x, layers.Conv2D(3, 1, name="conv")(x)])
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(outputs)), name="residual")
    with pytest.raises(ModelError, match=r"a narrower 'residual' does not fit together .*; give a student model"):
        narrow(model, 0.5)


def test_logits_are_distilled_like_probabilities(digits: Digits, loaded: LoadedModel, training: Training) -> None:
    teacher = keras.models.clone_model(loaded.model)
    teacher.set_weights(loaded.model.get_weights())
    teacher.get_layer("probabilities").activation = keras.activations.linear
    results = []
    for source in (loaded, describe(teacher)):
        own = student()
        own.set_weights([np.zeros((64, 10)), np.zeros(10)])
        made = distill(source, Distill(student=own, epochs=1, weight=1.0), training)
        results.append(made.predict({"image": digits.test["image"]})["logits"])
    assert results[0].std() > 0.1
    np.testing.assert_allclose(results[0], results[1], atol=0.05)

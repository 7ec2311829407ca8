from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgekit
from edgekit.compression import teacher_cache
from edgekit.compression.distillation import distill, logits_loss, soft_target_loss
from edgekit.compression.feature_matching import attention_map
from edgekit.compression.steps import Distill
from edgekit.compression.training import Training, TrainingSettings
from edgekit.data import Data
from edgekit.errors import ModelError, OutputError
from edgekit.loading import LoadedModel, describe
from tests.compression.conftest import Interrupting
from tests.conftest import Digits
from tests.disk import no_space_beyond


@pytest.fixture
def training(digits: Digits) -> Training:
    return Training(Data({"image": digits.train["image"]}, digits.train["y"], "training data"))


@pytest.fixture
def short(few: dict[str, np.ndarray], tmp_path: Path) -> Training:
    return Training(Data({"image": few["image"]}, few["y"], "training data"), tmp_path / "0-distill")


def student(name: str = "image", *, classes: int = 10, size: int = 8) -> Any:
    keras.utils.set_random_seed(3)
    model = [keras.Input((size, size, 1), name=name), layers.Flatten(), layers.Dense(classes, name="logits")]
    return keras.Sequential(model, name="student")


def convolutional_student(filters: int = 3) -> Any:
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1), name="image")
    small = layers.Conv2D(filters, 3, padding="same", activation="relu", name="small")(image)
    return keras.Model(image, layers.Dense(10, name="logits")(layers.Flatten()(small)), name="student")


def accuracy(loaded: LoadedModel, digits: Digits) -> float:
    (scores,) = loaded.predict({"image": digits.test["image"]}).values()
    return float(np.mean(scores.argmax(axis=1) == digits.test["y"]))


def test_a_narrower_student_learns(loaded: LoadedModel, training: Training, digits: Digits) -> None:
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
    wrong = Data(training.need_data().inputs, np.zeros_like(training.need_data().need_labels()), "training data")
    step = Distill(student=student(), epochs=8, learning_rate=1e-2, weight=1.0)
    assert accuracy(distill(loaded, step, replace(training, data=wrong)), digits) > 0.8
    unheard = replace(step, weight=0.0)
    assert accuracy(distill(loaded, unheard, replace(training, data=wrong)), digits) < 0.2


@pytest.mark.parametrize("objective", ["soft-targets", "logits-mse"])
def test_unlabelled_data_teaches_what_the_teacher_says(
    loaded: LoadedModel, training: Training, digits: Digits, objective: Any
) -> None:
    bare = replace(training, data=Data(training.need_data().inputs, None, "training data"))
    step = Distill(student=student(), epochs=8, learning_rate=1e-2, objective=objective)
    made = distill(loaded, step, bare)
    assert accuracy(made, digits) > 0.8
    (note,) = made.notes
    assert str(note) == (
        "distill: the data has no labels: the teacher's outputs alone are learned, whatever the weight"
    )


def test_a_student_from_a_file(loaded: LoadedModel, short: Training, tmp_path: Path) -> None:
    student().save(tmp_path / "student.keras")
    made = distill(loaded, Distill(student=tmp_path / "student.keras", epochs=1), short)
    assert made.name == "student"


def test_the_students_start_counts(loaded: LoadedModel, short: Training) -> None:
    own = student()
    own.set_weights([np.random.default_rng(0).normal(0, 1, weight.shape) for weight in own.get_weights()])
    made = distill(loaded, Distill(student=own, epochs=1, learning_rate=1e-9), short)
    for weight, start in zip(made.model.get_weights(), own.get_weights(), strict=True):
        np.testing.assert_allclose(weight, start, atol=1e-6)


def test_an_only_input_may_have_another_name(loaded: LoadedModel, short: Training, digits: Digits) -> None:
    own = student("picture")
    made = distill(loaded, Distill(student=own, epochs=1, learning_rate=1e-9), short)
    assert made.inputs == loaded.inputs
    expected = np.asarray(own(digits.test["image"][:5]))
    np.testing.assert_allclose(made.predict({"image": digits.test["image"][:5]})["logits"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (lambda: student(size=6), "takes 'image' (batch, 6, 6, 1) float32"),
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


def test_logits_are_distilled_like_probabilities(digits: Digits, loaded: LoadedModel, training: Training) -> None:
    teacher = keras.models.clone_model(loaded.model)
    teacher.set_weights(loaded.model.get_weights())
    teacher.get_layer("probabilities").activation = keras.activations.linear
    for objective in ("soft-targets", "logits-mse"):
        results = []
        for source in (loaded, describe(teacher)):
            own = student()
            own.set_weights([np.zeros((64, 10)), np.zeros(10)])
            made = distill(source, Distill(student=own, epochs=1, weight=1.0, objective=objective), training)
            results.append(made.predict({"image": digits.test["image"]})["logits"])
        assert results[0].std() > 0.1
        assert np.linalg.norm(results[0] - results[1]) < 0.15 * np.linalg.norm(results[0])


def test_the_losses_are_those_of_the_papers() -> None:
    generator = np.random.default_rng(0)
    teacher, own = generator.normal(0, 2, (2, 5, 4)).astype(np.float32)

    def softmax(logits: np.ndarray) -> np.ndarray:
        powers = np.exp(logits)
        return powers / powers.sum(axis=-1, keepdims=True)

    p, q = softmax(teacher / 3), softmax(own / 3)
    wanted = 9 * (p * np.log(p / q)).sum(axis=-1)
    np.testing.assert_allclose(soft_target_loss(False, False, 3.0)(teacher, own), wanted, rtol=1e-4)
    np.testing.assert_allclose(soft_target_loss(True, True, 3.0)(softmax(teacher), softmax(own)), wanted, rtol=1e-2)
    centred = (teacher - teacher.mean(-1, keepdims=True)) - (own - own.mean(-1, keepdims=True))
    np.testing.assert_allclose(logits_loss(False, False)(teacher, own), (centred**2).mean(-1), rtol=1e-4)
    features = generator.normal(0, 1, (2, 3, 3, 5)).astype(np.float32)
    found = np.asarray(attention_map(features))
    strengths = (features**2).sum(axis=-1).reshape(2, 9)
    np.testing.assert_allclose(found, strengths / np.linalg.norm(strengths, axis=1, keepdims=True), rtol=1e-4)


# Regression and several outputs


def two_headed(width: int) -> Any:
    keras.utils.set_random_seed(width)
    image = keras.Input((8, 8, 1), name="image")
    hidden = layers.Dense(width, activation="relu", name="hidden")(layers.Flatten()(image))
    return keras.Model(
        image, {"mean": layers.Dense(1, name="mean")(hidden), "box": layers.Dense(4, name="box")(hidden)}
    )


def test_several_outputs_are_learned_by_their_squared_error(training: Training) -> None:
    teacher, data = describe(two_headed(32)), training.need_data()
    made = distill(teacher, Distill(width=0.5, epochs=12, learning_rate=1e-2), training)
    wanted, got = teacher.predict(data.inputs), made.predict(data.inputs)
    for name in ("mean", "box"):
        assert float(np.mean((wanted[name] - got[name]) ** 2)) < 0.1 * float(wanted[name].var())
    assert "the model has 2 outputs: the teacher's outputs alone" in str(made.notes[0])


def test_a_regression_hears_its_labels_and_its_teacher(training: Training) -> None:
    inputs = training.need_data().inputs
    flat = inputs["image"].reshape(len(inputs["image"]), -1)
    truth = flat[:, :8].sum(axis=1, keepdims=True)
    image = keras.Input((8, 8, 1), name="image")
    teacher = keras.Model(image, layers.Dense(1, name="sum")(layers.Flatten()(image)))
    teacher.set_weights([np.ones((64, 1)), np.zeros(1)])
    labelled = Training(Data(inputs, truth, "training data"), settings=TrainingSettings(loss="mean_squared_error"))
    gaps = []
    for weight in (0.0, 1.0):
        own = two_headed(32)
        one = keras.Model(own.input, own.get_layer("mean").output)
        made = distill(describe(teacher), Distill(student=one, epochs=12, learning_rate=1e-2, weight=weight), labelled)
        (got,) = made.predict(inputs).values()
        gaps.append((float(np.mean((got - truth) ** 2)), float(np.mean((got[:, 0] - flat.sum(axis=1)) ** 2))))
    assert gaps[0][0] < 0.2 * gaps[0][1]
    assert gaps[1][1] < 0.2 * gaps[1][0]


# Features and attention


def feature_gap(teacher: LoadedModel, made: LoadedModel, image: np.ndarray) -> float:
    """How much of the teacher's attention the student's does not share, 0 to 2."""

    def maps(model: Any, layer: str) -> np.ndarray:
        return np.asarray(
            attention_map(keras.Model(model.input, model.get_layer(layer).output).predict(image, verbose=0))
        )

    return float(((maps(teacher.model, "relu") - maps(made.model, "small")) ** 2).sum(axis=1).mean())


def test_attention_is_matched(loaded: LoadedModel, short: Training, digits: Digits) -> None:
    plain = Distill(student=convolutional_student(), epochs=6, learning_rate=5e-3)
    short = replace(short, checkpoints=None)
    guided = replace(plain, attention={"relu": "small"}, feature_weight=5.0)
    gaps = [feature_gap(loaded, distill(loaded, step, short), digits.test["image"]) for step in (plain, guided)]
    assert gaps[1] < 0.8 * gaps[0]


def test_features_are_matched_through_a_projection_that_is_thrown_away(
    loaded: LoadedModel, training: Training, digits: Digits
) -> None:
    plain = Distill(student=convolutional_student(8), epochs=12, learning_rate=2e-2)
    guided = replace(plain, features={"relu": "small"}, feature_weight=5.0)
    wanted = keras.Model(loaded.model.input, loaded.model.get_layer("relu").output)
    errors = []
    for step in (plain, guided):
        made = distill(loaded, step, training)
        assert [type(layer).__name__ for layer in made.model.layers] == ["InputLayer", "Conv2D", "Flatten", "Dense"]
        assert made.parameters == convolutional_student(8).count_params()
        own = keras.Model(made.model.input, made.model.get_layer("small").output)
        x = own.predict(digits.test["image"], verbose=0).reshape(-1, 8)
        y = wanted.predict(digits.test["image"], verbose=0).reshape(-1, 8)
        x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        errors.append(float(np.mean((x @ np.linalg.lstsq(x, y, rcond=None)[0] - y) ** 2)))
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"features": {"rela": "small"}}, r"Distill.features: the teacher has no layer 'rela'; did you mean 'relu'\?"),
        ({"features": {"relu": "smal"}}, r"Distill.features: the student has no layer 'smal'; did you mean 'small'\?"),
        (
            {"attention": {"pool": "small"}},
            r"Distill.attention: 'pool' of the teacher gives .* match layers of the same",
        ),
        ({"attention": {"probabilities": "logits"}}, r"layer 'probabilities' gives .*, which has no positions"),
    ],
)
def test_matches_that_cannot_be(loaded: LoadedModel, short: Training, step: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        distill(loaded, Distill(student=convolutional_student(), epochs=1, **step), short)


# The teacher's outputs on disk


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that a teacher predicts."""
    calls: list[int] = []
    predict = teacher_cache._predict

    def counting(*args: Any) -> None:
        calls.append(1)
        predict(*args)

    monkeypatch.setattr(teacher_cache, "_predict", counting)
    return calls


def test_the_teacher_is_asked_once(
    loaded: LoadedModel, digits: Digits, few: dict[str, np.ndarray], tmp_path: Path, asked: list[int]
) -> None:
    step = edgekit.Distill(width=0.5, epochs=3)
    whole = edgekit.compress(loaded, step, data=few)
    assert len(asked) == 1
    with pytest.raises(KeyboardInterrupt):
        edgekit.compress(loaded, step, data=few, checkpoints=tmp_path, progress=Interrupting("distil into", 8))
    assert len(asked) == 2
    resumed = edgekit.compress(loaded, step, data=few, checkpoints=tmp_path)
    for weight, expected in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    edgekit.compress(loaded, replace(step, temperature=2.0), data=few, checkpoints=tmp_path)
    assert len(asked) == 2
    other = {"image": few["image"][::-1], "y": few["y"][::-1]}
    edgekit.compress(loaded, step, data=other, checkpoints=tmp_path)
    assert len(asked) == 3


def test_the_cache_holds_what_the_teacher_says(loaded: LoadedModel, short: Training, tmp_path: Path) -> None:
    data = short.need_data()
    (found,) = teacher_cache.teacher_outputs(loaded, loaded.model, ["output 0"], short, tmp_path)
    assert isinstance(found, np.memmap)
    np.testing.assert_allclose(found, loaded.predict(data.inputs)["probabilities"], atol=1e-6)


def test_a_cache_that_was_cut_short_is_named(loaded: LoadedModel, short: Training, tmp_path: Path) -> None:
    teacher_cache.teacher_outputs(loaded, loaded.model, ["output 0"], short, tmp_path)
    (path,) = tmp_path.glob("teacher-*.npy")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(edgekit.EdgekitError, match=r"the teacher's outputs in .* cannot be read .*; remove them"):
        teacher_cache.teacher_outputs(loaded, loaded.model, ["output 0"], short, tmp_path)


def test_no_space_for_the_teachers_outputs(loaded: LoadedModel, short: Training, tmp_path: Path) -> None:
    with no_space_beyond(3000), pytest.raises(OutputError, match=r"cannot write .*teacher-"):
        teacher_cache.teacher_outputs(loaded, loaded.model, ["output 0"], short, tmp_path)
    assert list(tmp_path.glob("*teacher*")) == []


@pytest.mark.parametrize(("own", "kept"), [(lambda: {"width": 0.5}, True), (lambda: {"student": student()}, False)])
def test_the_compiled_loss_stays_where_it_fits(loaded: LoadedModel, short: Training, own: Any, kept: bool) -> None:
    compiled = replace(loaded, compiled_loss="sparse_categorical_crossentropy")
    made = distill(compiled, Distill(**own(), epochs=1), short)
    assert (made.compiled_loss is not None) == kept

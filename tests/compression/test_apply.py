from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import edgekit
from edgekit.compression.steps import Step
from edgekit.compression.training import TrainingSettings
from edgekit.errors import ConfigError, DataError, ModelError
from edgekit.loading import LoadedModel, describe
from tests.compression.conftest import Interrupting
from tests.conftest import Digits
from tests.keras_models import pair

Columns = dict[str, np.ndarray]

RECIPE: tuple[Step, ...] = (
    edgekit.Distill(width=0.5, epochs=2),
    edgekit.Prune(0.6, epochs=2),
    edgekit.QuantizeAware(epochs=2),
)
TASKS = ("distil into", "prune to", "quantization-aware")


def assert_equal(got: LoadedModel, wanted: LoadedModel) -> None:
    """Bit for bit."""
    assert got.activation_ranges == wanted.activation_ranges
    assert [layer.name for layer in got.model.layers] == [layer.name for layer in wanted.model.layers]
    for weight, expected in zip(got.model.get_weights(), wanted.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.fixture(scope="module")
def uninterrupted(loaded: LoadedModel, digits: Digits) -> LoadedModel:
    return edgekit.compress(loaded, *RECIPE, data=digits.few(320))


def test_a_whole_recipe_makes_a_smaller_sparser_quantized_model(
    loaded: LoadedModel, uninterrupted: LoadedModel
) -> None:
    assert uninterrupted.parameters < loaded.parameters / 1.5
    assert uninterrupted.activation_ranges is not None
    assert (uninterrupted.inputs, uninterrupted.outputs) == (loaded.inputs, loaded.outputs)
    (kernel,) = (layer.kernel for layer in uninterrupted.model.layers if layer.name == "conv")
    assert float(np.mean(np.asarray(kernel) == 0)) >= 0.55


def test_ranges_that_a_later_step_loses_are_said(uninterrupted: LoadedModel) -> None:
    pruned = edgekit.compress(uninterrupted, edgekit.Prune(0.8, epochs=0))
    assert pruned.activation_ranges is None
    assert "prune: the ranges that QuantizeAware had trained" in "\n".join(map(str, pruned.notes))
    again = edgekit.compress(pruned, edgekit.Prune(0.9, epochs=0))
    assert "\n".join(map(str, again.notes)).count("QuantizeAware had trained") == 1


def test_a_missing_student_is_said_before_anything_trains(loaded: LoadedModel, few: Columns) -> None:
    watched = Interrupting()
    recipe = (edgekit.Distill(0.5, epochs=1), edgekit.Distill(student="none.keras", epochs=1))
    with pytest.raises(ModelError, match=r"no model file none.keras"):
        edgekit.compress(loaded, *recipe, data=few, progress=watched)
    assert watched.tasks == []


def test_the_given_model_is_not_changed(digits: Digits, few: Columns) -> None:
    model = keras.saving.load_model(digits.model)
    before = [weight.copy() for weight in model.get_weights()]
    optimizer, config = model.optimizer, model.get_config()
    edgekit.compress(model, edgekit.Prune(0.5, epochs=1), edgekit.QuantizeAware(epochs=1), data=few)
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    assert model.optimizer is optimizer
    assert model.get_config() == config


def test_another_seed_gives_other_weights(loaded: LoadedModel, few: Columns) -> None:
    step = edgekit.Prune(0.5, epochs=1)
    first, second = (edgekit.compress(loaded, step, data=few, seed=seed) for seed in (1, 2))
    assert any(
        not np.array_equal(a, b) for a, b in zip(first.model.get_weights(), second.model.get_weights(), strict=True)
    )


@pytest.mark.parametrize(("step", "batches"), [(0, 7), (1, 2), (2, 7)])
def test_an_interrupted_call_goes_on_to_the_same_bits(
    step: int, batches: int, digits: Digits, few: Columns, tmp_path: Path, uninterrupted: LoadedModel
) -> None:
    """Interrupted in the first epoch of a step (after 2 of its 5 batches) or in the second (after 7)."""
    with pytest.raises(KeyboardInterrupt):
        edgekit.compress(
            digits.model, *RECIPE, data=few, checkpoints=tmp_path, progress=Interrupting(TASKS[step], batches)
        )
    keras.utils.set_random_seed(99)
    again = Interrupting()
    resumed = edgekit.compress(digits.model, *RECIPE, data=few, checkpoints=tmp_path, progress=again)
    assert_equal(resumed, uninterrupted)
    assert len(again.tasks) == len(RECIPE) - step
    assert again.tasks[0].startswith(TASKS[step])


def test_finished_steps_are_not_trained_again(
    loaded: LoadedModel, few: Columns, tmp_path: Path, uninterrupted: LoadedModel
) -> None:
    keras.utils.set_random_seed(12345)
    first = edgekit.compress(loaded, *RECIPE, data=few, checkpoints=tmp_path)
    second_progress = Interrupting()
    second = edgekit.compress(loaded, *RECIPE, data=few, checkpoints=tmp_path, progress=second_progress)
    assert second_progress.tasks == []
    assert_equal(first, uninterrupted)
    assert_equal(second, uninterrupted)
    assert second.origin == first.origin


def test_a_changed_step_model_seed_or_data_is_trained_anew(loaded: LoadedModel, few: Columns, tmp_path: Path) -> None:
    step = edgekit.Prune(0.5, epochs=1)
    model = keras.models.clone_model(loaded.model)
    other_data = {name: array[::-1] for name, array in few.items()}
    calls = [
        (loaded, step, few, 0),
        (loaded, edgekit.Prune(0.6, epochs=1), few, 0),
        (model, step, few, 0),
        (loaded, step, other_data, 0),
        (loaded, step, few, 1),
    ]
    for source, changed, data, seed in calls:
        progress = Interrupting()
        edgekit.compress(source, changed, data=data, seed=seed, checkpoints=tmp_path, progress=progress)
        assert len(progress.tasks) == 1


def test_another_student_of_the_same_name_is_trained_anew(loaded: LoadedModel, few: Columns, tmp_path: Path) -> None:
    def student(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        layers = [keras.Input((8, 8, 1), name="image"), keras.layers.Flatten(), keras.layers.Dense(10)]
        return keras.Sequential(layers, name="student")

    first, second = student(1), student(2)
    for own, asked in ((first, ["ask the teacher"]), (second, []), (first, None)):
        progress = Interrupting()
        step = edgekit.Distill(student=own, epochs=1)
        edgekit.compress(loaded, step, data=few, checkpoints=tmp_path, progress=progress)
        assert progress.tasks == ([] if asked is None else [*asked, "distil into 650 parameters"])


def test_the_compressed_file_opens_in_plain_keras_and_says_where_it_came_from(
    digits: Digits, loaded: LoadedModel, uninterrupted: LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / "compressed.keras"
    uninterrupted.save(path)
    image = digits.test["image"][:50]
    plain = keras.saving.load_model(path).predict(image, verbose=0)
    np.testing.assert_allclose(plain, uninterrupted.predict({"image": image})["probabilities"], atol=1e-6)
    again = edgekit.load(path)
    assert again.activation_ranges == uninterrupted.activation_ranges
    assert again.origin is not None
    assert again.origin.parameters == loaded.parameters
    assert [step["step"] for step in again.origin.recipe] == ["distill", "prune", "quantize-aware"]


def test_the_origin_is_the_file_that_was_given(digits: Digits, few: Columns) -> None:
    from edgekit.files import sha256_file

    made = edgekit.compress(digits.model, edgekit.Prune(0.5, epochs=1), data=few)
    assert made.origin is not None
    assert made.origin.sha256 == sha256_file(digits.model)
    assert made.origin.model is not None


def test_quantize_aware_must_be_last(loaded: LoadedModel, few: Columns) -> None:
    with pytest.raises(ConfigError, match=r"step 'quantize-aware' comes before 'prune', which would undo it"):
        edgekit.compress(loaded, edgekit.QuantizeAware(), edgekit.Prune(0.5), data=few)


def test_an_empty_recipe_gives_the_model_back(loaded: LoadedModel, few: Columns) -> None:
    assert edgekit.compress(loaded, data=few) is loaded


def test_training_data_is_checked_before_the_work(loaded: LoadedModel, few: Columns) -> None:
    progress = Interrupting()
    step = edgekit.Prune(0.5)
    with pytest.raises(DataError, match=r"training data: no labels"):
        edgekit.compress(loaded, step, data={"image": few["image"]}, progress=progress)
    with pytest.raises(DataError, match=r"training data: label 10 in sample 0, expected 0 to 9"):
        edgekit.compress(loaded, step, data={**few, "y": np.full(320, 10)}, progress=progress)
    assert progress.tasks == []


def test_a_model_that_is_no_classifier_needs_a_loss() -> None:
    data = {
        "left": np.zeros((8, 6, 6, 2), np.float32),
        "right": np.zeros((8, 3), np.float32),
        "y": np.zeros(8, np.int64),
    }
    with pytest.raises(DataError, match=r"training without a loss: needs a classifier with one output"):
        edgekit.compress(describe(pair()), edgekit.Prune(0.5), data=data)


def test_the_compiled_loss_outlives_a_resumed_step(loaded: LoadedModel, few: Columns, tmp_path: Path) -> None:
    compiled = replace(loaded, compiled_loss="sparse_categorical_crossentropy")
    for _ in range(2):
        made = edgekit.compress(compiled, edgekit.Prune(0.5, epochs=1), data=few, checkpoints=tmp_path)
        assert made.compiled_loss == "sparse_categorical_crossentropy"


def test_other_training_settings_are_other_work(loaded: LoadedModel, few: Columns, tmp_path: Path) -> None:
    step = edgekit.Prune(0.5, epochs=1)
    for settings in (TrainingSettings(), TrainingSettings(patience=1), TrainingSettings(loss="original-outputs")):
        progress = Interrupting()
        edgekit.compress(loaded, step, data=few, training=settings, checkpoints=tmp_path, progress=progress)
        assert len(progress.tasks) == 1


def test_what_is_no_step_is_refused(loaded: LoadedModel, few: Columns) -> None:
    with pytest.raises(ConfigError, match=r"recipe: 'prune' is not a step; give Distill"):
        edgekit.compress(loaded, "prune", data=few)  # type: ignore[arg-type]


@pytest.mark.parametrize("batches", [47, 92])
def test_pruning_goes_on_to_the_same_bits(batches: int, loaded: LoadedModel, few: Columns, tmp_path: Path) -> None:
    """Interrupted between two choices of the masks (45 batches are saved), and after the last choice (90)."""
    step = edgekit.Prune(0.6, epochs=20)
    whole = edgekit.compress(loaded, step, data=few)
    with pytest.raises(KeyboardInterrupt):
        edgekit.compress(loaded, step, data=few, checkpoints=tmp_path, progress=Interrupting("prune to", batches))
    resumed = edgekit.compress(loaded, step, data=few, checkpoints=tmp_path)
    assert_equal(resumed, whole)
    assert resumed.sparsity == pytest.approx(0.6, abs=0.1)


def test_a_step_refuses_what_is_no_number() -> None:
    with pytest.raises(ConfigError, match=r"Prune.sparsity is 'x', expected a number"):
        edgekit.Prune(sparsity="x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"Prune.epochs must be a whole number"):
        edgekit.Prune(0.5, epochs=1.5)  # type: ignore[arg-type]

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgekit.compression import Factorize, PruneChannels
from edgekit.errors import ModelError
from edgekit.search.space import MOST_LAYERS, OTHERS, make_space
from edgekit.search.subject import Subject
from edgekit.search_settings import SearchSettings

SETTINGS = SearchSettings()


def test_the_dimensions_of_a_model(subject: Subject) -> None:
    space = make_space(subject.model.model, subject.precisions, "tflite", SETTINGS)
    assert list(space.dimensions) == [
        "precision", "channels/conv", "energy/conv", "energy/probabilities", "kept/conv", "kept/probabilities",
    ]  # fmt: skip
    assert space.dimensions["precision"] == ("int8", "fp16"), "int8 first: it is what runs fastest as a rule"
    assert space.dimensions["kept/conv"] == ("same", "fp32", "int4-weights")
    assert space.recipe(space.neutral(), 6).steps == ()


def test_parameters_become_steps_with_settings_for_single_layers(subject: Subject) -> None:
    space = make_space(subject.model.model, subject.precisions, "tflite", SETTINGS)
    params = {**space.neutral(), "channels/conv": 0.5, "energy/probabilities": 0.9000000000000001, "kept/conv": "fp32"}
    recipe = space.recipe(params, 6)
    assert recipe.steps == (PruneChannels(0.5, 3), Factorize(0.9, 3, layers={"conv": "skip"}))
    assert recipe.kept == {"conv": "fp32"}
    assert [step.epochs for step in space.recipe(params, 0).steps] == [0, 0]
    assert [step.epochs for step in space.recipe(params, 1).steps] == [1, 1]


def test_single_layers_have_no_precision_of_their_own_in_a_float_file(subject: Subject) -> None:
    space = make_space(subject.model.model, subject.precisions, "tflite", SETTINGS)
    params = {**space.neutral(), "precision": "fp16", "kept/conv": "int4-weights"}
    assert space.recipe(params, 0) == space.recipe({**space.neutral(), "precision": "fp16"}, 0)


def test_zeros_are_searched_for_where_packed_bytes_count(subject: Subject) -> None:
    settings = replace(SETTINGS, steps=("prune",), bytes="packed")
    space = make_space(subject.model.model, ["int8"], "tflite", settings)
    assert "sparsity/conv" in space.dimensions
    assert "sparsity/depthwise" not in space.dimensions, "which Prune leaves alone"
    step = space.recipe({**space.neutral(), "sparsity/conv": 0.8}, 2).steps[0]
    assert (step.sparsity, step.layers) == (0.8, {"probabilities": "skip"})  # type: ignore[union-attr]


def test_onnx_keeps_layers_in_float_alone(subject: Subject) -> None:
    space = make_space(subject.model.model, ["int8"], "onnx", SETTINGS)
    assert space.dimensions["kept/conv"] == ("same", "fp32")


def test_small_layers_of_a_large_model_share_a_dimension() -> None:
    space = make_space(_chain(MOST_LAYERS + 6), ["int8"], "tflite", SETTINGS)
    names = [name for name in space.dimensions if name.startswith("kept/")]
    assert len(names) == MOST_LAYERS + 1
    assert names[-1] == f"kept/{OTHERS}"
    shared = space.members["kept"][OTHERS]
    assert len(shared) == 6
    recipe = space.recipe({**space.neutral(), f"kept/{OTHERS}": "fp32"}, 0)
    assert recipe.kept == dict.fromkeys(shared, "fp32")


def test_a_model_that_leaves_nothing_to_search() -> None:
    import keras

    image = keras.Input((4,), name="image")
    model = keras.Model(image, keras.layers.Softmax(name="softmax")(image), name="bare")
    with pytest.raises(ModelError, match=r"model 'bare' leaves nothing to search: no layer that prune-channels, facto"):
        make_space(model, ["int8"], "tflite", SETTINGS)


def _chain(length: int) -> Any:
    import keras

    image = outputs = keras.Input((8,), name="image")
    for index in range(length):
        outputs = keras.layers.Dense(8 + index % 3, name=f"dense{index}")(outputs)
    return keras.Model(image, outputs)

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.compression.canonical import canonical, canonical_form
from edgekit.loading import LoadedModel, describe
from tests.keras_models import folding, pair, samples, shaken, unfoldable


def kinds(loaded: LoadedModel) -> list[str]:
    return [type(layer).__name__ for layer in loaded.model.layers]


def assert_same_outputs(before: LoadedModel, after: LoadedModel) -> None:
    assert after.inputs == before.inputs
    assert after.outputs == before.outputs
    columns = samples(before.model)
    got, wanted = after.predict(columns), before.predict(columns)
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(got[name], array, atol=1e-5)


def test_batch_normalization_is_folded_away() -> None:
    before = describe(folding())
    after = canonical(before)
    assert "BatchNormalization" in kinds(before)
    assert "BatchNormalization" not in kinds(after)
    assert_same_outputs(before, after)


def test_a_trained_model_is_folded(loaded: LoadedModel) -> None:
    after = canonical(loaded)
    assert "BatchNormalization" not in kinds(after)
    assert_same_outputs(loaded, after)


@pytest.mark.parametrize(
    ("kernel", "shape"),
    [
        (lambda: layers.Conv1D(5, 3, name="kernel"), (8, 4)),
        (lambda: layers.DepthwiseConv1D(3, depth_multiplier=2, use_bias=False, name="kernel"), (8, 4)),
        (lambda: layers.SeparableConv1D(5, 3, name="kernel"), (8, 4)),
        (lambda: layers.SeparableConv2D(5, 3, use_bias=False, name="kernel"), (8, 8, 4)),
        (lambda: layers.Conv1DTranspose(5, 3, name="kernel"), (8, 4)),
        (lambda: layers.Conv2DTranspose(5, 3, use_bias=False, name="kernel"), (8, 8, 4)),
        (lambda: layers.Dense(5, name="kernel"), (3, 2, 4)),
    ],
)
def test_batch_normalization_is_folded_into_every_kind_of_kernel(kernel: Any, shape: tuple[int, ...]) -> None:
    x = keras.Input(shape, name="x")
    before = describe(shaken(keras.Model(x, layers.BatchNormalization(name="norm")(kernel()(x)))))
    after = canonical(before)
    assert "BatchNormalization" not in kinds(after)
    assert_same_outputs(before, after)


def test_nested_models_are_inlined_and_folded() -> None:
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, use_bias=False, name="dense")], name="inner")
    x = keras.Input((4,), name="x")
    before = describe(shaken_inner(keras.Model(x, layers.BatchNormalization(name="norm")(inner(x)))))
    form = canonical_form(before)
    assert kinds(form.loaded) == ["InputLayer", "Dense"]
    assert set(form.original_names.values()) == {"dense"}
    assert_same_outputs(before, form.loaded)


def shaken_inner(model: Any) -> Any:
    generator = np.random.default_rng(0)
    model.set_weights([generator.uniform(0.2, 1, weight.shape) for weight in model.get_weights()])
    return model


def test_normalization_over_shared_values_stays_on_request() -> None:
    x = keras.Input((8, 8, 4), name="x")
    model = shaken(keras.Model(x, layers.BatchNormalization(name="norm")(layers.Conv2D(5, 3, name="conv")(x))))
    conv = model.get_layer("conv").kernel
    conv.assign(np.round(np.asarray(conv) * 4) / 4)
    before = describe(model)
    assert "BatchNormalization" in kinds(canonical_form(before, keep_shared=True).loaded)
    assert "BatchNormalization" not in kinds(canonical_form(before).loaded)
    conv.assign(np.random.default_rng(0).normal(size=conv.shape))
    assert "BatchNormalization" not in kinds(canonical_form(before, keep_shared=True).loaded)


def test_an_activation_that_kernels_cannot_fuse_becomes_a_layer_of_its_own() -> None:
    before = describe(pair())
    after = canonical(before)
    names = {layer.name: layer for layer in after.model.layers}
    assert names["classes_linear"].activation.__name__ == "linear"
    assert names["classes"].activation.__name__ == "softmax"
    assert names["score"].activation.__name__ == "sigmoid"
    assert names["conv"].activation.__name__ == "relu"
    assert "conv_linear" not in names
    assert_same_outputs(before, after)


def test_batch_normalization_that_others_depend_on_stays() -> None:
    before = describe(unfoldable())
    after = canonical(before)
    assert kinds(after).count("BatchNormalization") == 2
    assert_same_outputs(before, after)


def test_canonical_form_stays_as_it_is() -> None:
    once = canonical(describe(folding()))
    twice = canonical(once)
    assert [layer.name for layer in twice.model.layers] == [layer.name for layer in once.model.layers]
    assert_same_outputs(once, twice)


def test_layers_of_the_users_own_may_be_called_linear() -> None:
    x = keras.Input((4,), name="x")
    hidden = keras.layers.Dense(3, name="scores_linear")(x)
    hidden = keras.layers.Dense(3, name="other_linear")(hidden)
    before = describe(shaken(keras.Model(x, keras.layers.Dense(3, activation="tanh", name="scores")(hidden))))
    assert_same_outputs(before, canonical(before))


def test_an_activation_of_a_layer_that_is_used_twice_is_split_once() -> None:
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    twice = keras.layers.Dense(4, activation="tanh", name="twice")
    both = keras.layers.Add(name="both")([twice(left), twice(right)])
    before = describe(shaken(keras.Model([left, right], keras.layers.Dense(2, name="scores")(both))))
    after = canonical(before)
    assert kinds(after).count("Activation") == 1
    assert_same_outputs(before, after)


@pytest.mark.parametrize("make", [folding, pair])
def test_the_given_model_is_not_changed(make: object) -> None:
    assert callable(make)
    model = make()
    before = [weight.copy() for weight in model.get_weights()]
    names = [layer.name for layer in model.layers]
    canonical(describe(model))
    assert [layer.name for layer in model.layers] == names
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)

from __future__ import annotations

import keras
import numpy as np
import pytest

from edgekit.compression.canonical import canonical
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

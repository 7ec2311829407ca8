from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.compression.normalization import frozen_statistics, fused_normalization


def normalized(**settings: Any) -> Any:
    keras.utils.set_random_seed(0)
    image = keras.Input((5, 5, 3), name="image")
    norm = layers.BatchNormalization(momentum=0.8, name="norm", **settings)
    x = norm(layers.Conv2D(4, 3, use_bias=False, name="conv")(image))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(layers.ReLU()(x))))
    generator = np.random.default_rng(1)
    for weight in norm.weights:
        weight.assign(generator.uniform(0.5, 1.5, weight.shape))
    return model


def trained(model: Any, images: np.ndarray) -> list[np.ndarray]:
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    model.fit(images, np.ones((len(images), 2)), batch_size=4, epochs=2, shuffle=False, verbose=0)
    weights: list[np.ndarray] = model.get_weights()
    return weights


@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False, "epsilon": 0.1}, {"trainable": False}])
def test_training_is_that_of_keras(settings: dict[str, Any]) -> None:
    images = np.random.default_rng(0).normal(1, 2, (9, 5, 5, 3)).astype(np.float32)  # the last batch has one image
    plain, fused = normalized(**settings), normalized(**settings)
    wanted = trained(plain, images)
    with fused_normalization(fused):
        got = trained(fused, images)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert (
        max(float(np.abs(a - b).max()) for a, b in zip(wanted, normalized(**settings).get_weights(), strict=True))
        > 0.01
    )
    np.testing.assert_allclose(fused.predict(images, verbose=0), plain.predict(images, verbose=0), rtol=1e-4, atol=1e-4)


def test_the_fused_operation_is_used_and_then_no_more() -> None:
    import tensorflow as tf

    model = normalized()
    sample = tf.zeros((2, 5, 5, 3))

    def operations() -> set[str]:
        graph = tf.function(lambda: model(sample, training=True)).get_concrete_function().graph
        return {operation.type for operation in graph.get_operations()}

    assert "FusedBatchNormV3" not in operations()
    with fused_normalization(model):
        assert "FusedBatchNormV3" in operations()
    assert "FusedBatchNormV3" not in operations()


def test_what_the_operation_does_not_take_stays_keras_own() -> None:
    x = keras.Input((4, 6))
    vector = keras.Model(x, layers.BatchNormalization(name="norm")(x))
    image = keras.Input((4, 4, 6))
    first = keras.Model(image, layers.BatchNormalization(axis=1, name="norm")(image))
    for model in (vector, first):
        with fused_normalization(model):
            assert "call" not in vars(model.get_layer("norm"))


def test_frozen_statistics_stay_while_all_else_is_trained() -> None:
    images = np.random.default_rng(0).normal(1, 2, (9, 5, 5, 3)).astype(np.float32)
    model, untrained = normalized(), normalized()
    with frozen_statistics(model):
        np.testing.assert_allclose(model(images, training=True), untrained(images, training=False), rtol=1e-5)
        trained(model, images)
    norm, before = model.get_layer("norm"), untrained.get_layer("norm")
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_array_equal(np.asarray(getattr(norm, name)), np.asarray(getattr(before, name)))
    for name in ("gamma", "beta"):
        assert (np.asarray(getattr(norm, name)) != np.asarray(getattr(before, name))).all()
    assert "call" not in vars(norm)

"""Small CNNs with one planted fault each, as a user would bring them."""

from __future__ import annotations

from typing import Any

import numpy as np

IMAGES = np.random.default_rng(5).uniform(0.0, 1.0, (24, 12, 12, 2)).astype(np.float32)
OUTLIER_CHANNEL = 3


def cnn(*, factor: float = 1.0, gate_bias: float = 0.0) -> Any:
    """Three convolutions and a gate.

    `factor` multiplies one output channel of `middle`, which `last` does not look at, so that the float model does
    not care; a `gate_bias` far below zero pushes the sigmoid of `gate` into its flat part.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    image = outputs = keras.Input((12, 12, 2), name="image")
    outputs = layers.Conv2D(6, 3, activation="relu", name="first")(outputs)
    outputs = layers.Conv2D(8, 3, activation="relu", name="middle")(outputs)
    outputs = layers.Conv2D(8, 3, activation="relu", name="last")(outputs)
    outputs = layers.GlobalAveragePooling2D(name="pool")(outputs)
    model = keras.Model(image, layers.Dense(5, activation="sigmoid", name="gate")(outputs), name="planted")
    _plant(model, factor, gate_bias)
    return model


def _plant(model: Any, factor: float, gate_bias: float) -> None:
    kernel, bias = model.get_layer("middle").get_weights()
    kernel[..., OUTLIER_CHANNEL] = np.abs(kernel[..., OUTLIER_CHANNEL]) * factor  # alive for every image
    model.get_layer("middle").set_weights([kernel, bias])
    kernel, bias = model.get_layer("last").get_weights()
    kernel[:, :, OUTLIER_CHANNEL] = 0
    model.get_layer("last").set_weights([kernel, bias])
    kernel, bias = model.get_layer("gate").get_weights()
    model.get_layer("gate").set_weights([kernel, bias + gate_bias])

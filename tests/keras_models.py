"""Small untrained Keras models whose BatchNormalization statistics and biases are not trivial."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers


def shaken(model: Any, seed: int = 0) -> Any:
    """The model with every weight set to a random value of a sensible size; variances stay positive."""
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        weights = [generator.normal(0, 0.5, weight.shape).astype(np.float32) for weight in layer.get_weights()]
        if isinstance(layer, layers.BatchNormalization):
            weights[-1] = np.abs(weights[-1]) + 0.1
        if not isinstance(layer, layers.Dropout):
            layer.set_weights(weights)
    return model


def pair() -> Any:
    """Two inputs and two outputs, with a residual Add, a Concatenate and a layer that is used twice."""
    left, right = keras.Input((6, 6, 2), name="left"), keras.Input((3,), name="right")
    conv = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(left)
    norm = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, padding="same", name="linear")(conv))
    merged = layers.Activation("relu6", name="merged")(layers.Add(name="add")([conv, norm]))
    shared = layers.Dense(4, name="shared")
    pooled = layers.GlobalAveragePooling2D(name="pooled")(merged)
    both = layers.Concatenate(name="both")([shared(pooled), shared(layers.Dense(4, name="widen")(right))])
    score = layers.Dense(1, activation="sigmoid", name="score")(both)
    classes = layers.Dense(3, activation="softmax", name="classes")(both)
    return shaken(keras.Model([left, right], [classes, score], name="pair"))


def folding() -> Any:
    """Every kernel with BatchNormalization after it, with and without bias, scale and center."""
    image = outputs = keras.Input((8, 8, 3), name="image")
    for index, use_bias in enumerate((True, False)):
        outputs = layers.Conv2D(5, 3, use_bias=use_bias, name=f"conv{index}")(outputs)
        outputs = layers.BatchNormalization(scale=not index, center=bool(index), name=f"norm{index}")(outputs)
        outputs = layers.ReLU(max_value=6.0, name=f"relu{index}")(outputs)
    outputs = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depthwise")(outputs)
    outputs = layers.BatchNormalization(name="depthwise_norm")(outputs)
    outputs = layers.Flatten(name="flatten")(outputs)
    outputs = layers.Dense(7, activation="linear", name="hidden")(outputs)
    outputs = layers.BatchNormalization(name="hidden_norm")(outputs)
    outputs = layers.Dense(4, activation="softmax", name="classes")(outputs)
    return shaken(keras.Model(image, outputs, name="folding"))


def unfoldable() -> Any:
    """BatchNormalization that must stay: after an activation, and over a layer with a second consumer."""
    image = keras.Input((6, 6, 3), name="image")
    active = layers.Conv2D(4, 3, padding="same", activation="relu", name="active")(image)
    after = layers.BatchNormalization(name="after_relu")(active)
    shared = layers.Conv2D(4, 3, padding="same", name="used_twice")(after)
    norm = layers.BatchNormalization(name="over_shared")(shared)
    outputs = layers.Add(name="add")([shared, norm])
    return shaken(keras.Model(image, layers.GlobalAveragePooling2D(name="pooled")(outputs), name="unfoldable"))


def samples(model: Any, count: int = 16) -> dict[str, np.ndarray]:
    """Random inputs by name."""
    generator = np.random.default_rng(1)
    return {
        tensor.name: generator.uniform(-1, 1, (count, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs
    }

"""Bridge each model to tf_keras and print, as JSON, how far its outputs are: run with TF_USE_LEGACY_KERAS=1."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from edgekit.bridge import to_tf_keras
from edgekit.errors import ModelError
from edgekit.loading import describe
from tests.conftest import digits_cnn
from tests.keras_models import folding, pair, samples, shaken


class Own(layers.Layer):  # type: ignore[misc]
    def call(self, tensor: Any) -> Any:
        return tensor


def sequential() -> Any:
    """Every layer that needs its settings carried over."""
    stack = [
        keras.Input((8, 8, 3), name="x"),
        layers.Rescaling(1 / 3, offset=0.1),
        layers.ZeroPadding2D(((0, 1), (1, 0))),
        layers.Conv2D(6, 3, strides=2, dilation_rate=1, activation="relu6", kernel_regularizer="l2"),
        layers.LeakyReLU(negative_slope=0.25),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.BatchNormalization(epsilon=1e-2, momentum=0.8),
        layers.PReLU(shared_axes=[1, 2]),
        layers.AveragePooling2D(2, strides=1),
        layers.Conv2DTranspose(4, 3, activation="gelu"),
        layers.UpSampling2D(2),
        layers.LayerNormalization(epsilon=1e-2),
        layers.Permute((3, 1, 2)),
        layers.Reshape((-1, 4)),
        layers.Dense(5, activation="silu"),
        layers.Conv1D(4, 3, activation="elu"),
        layers.GlobalAveragePooling1D(),
        layers.Dropout(0.5),
        layers.Softmax(),
    ]
    return shaken(keras.Sequential(stack, name="settings"))


def recurrent() -> Any:
    x = keras.Input((5, 4), name="x")
    return shaken(keras.Model(x, layers.GRU(3)(layers.LSTM(6, return_sequences=True)(x)), name="recurrent"))


def difference(model: Any) -> dict[str, Any]:
    loaded = describe(model)
    twin = to_tf_keras(loaded)
    columns = samples(model)
    wanted = loaded.predict(columns)
    got = twin([columns[spec.name] for spec in loaded.inputs], training=False)
    got = got if isinstance(got, list) else [got]
    return {
        "max_abs": max(float(np.abs(a - np.asarray(b)).max()) for a, b in zip(wanted.values(), got, strict=True)),
        "shapes": [list(array.shape) for array in got],
        "inputs": [tensor.name for tensor in twin.inputs],
        "layers": [layer.name for layer in twin.layers],
        "legacy": type(twin).__module__.startswith("tf_keras"),
    }


def refusal(model: Any) -> str:
    try:
        to_tf_keras(describe(model))
    except ModelError as problem:
        return str(problem)
    return "not refused"


CASES: dict[str, Callable[[], Any]] = {
    "digits": lambda: shaken(digits_cnn()),
    "folding": folding,
    "pair": pair,
    "recurrent": recurrent,
    "sequential": sequential,
}

REFUSED: dict[str, Any] = {
    "own": lambda: Own(name="mine"),
    "nested": lambda: keras.Sequential([keras.Input((4,)), layers.Dense(4)], name="inner"),
}


def main() -> None:
    refused = {name: refusal(keras.Sequential([keras.Input((4,), name="x"), make()])) for name, make in REFUSED.items()}
    found = {"models": {name: difference(make()) for name, make in CASES.items()}, "refused": refused}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

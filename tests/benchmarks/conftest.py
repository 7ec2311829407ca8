from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import tflite_tools


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny `model.keras` and its data, as `prepare` writes them."""
    import keras

    folder = tmp_path_factory.mktemp("dense")
    image = keras.Input((6, 6, 1), name="image")
    outputs = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    model = keras.Model(image, keras.layers.Dense(3)(outputs))
    model.save(folder / "model.keras")
    images = np.random.default_rng(0).random((12, 6, 6, 1), np.float32)
    tflite_tools.save(folder / "calibration.npz", image=images)
    tflite_tools.save(folder / "test.npz", image=images, y=model.predict(images, verbose=0).argmax(-1))
    return folder

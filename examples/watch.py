"""Smart-watch motion: 140 recordings of physiotherapy exercises by ten people (Burns et al. 2018, "Shoulder
Physiotherapy Exercise Recognition"), which the package seglearn carries (BSD-3), a small convolutional network, and a
recurrent one.

The people of the test set are not in the training set, which is what a watch meets in its shop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: keras models

import numpy as np

from edgekit.data import Data
from edgekit.errors import EngineError
from edgekit.loading import import_keras
from edgekit.tensors import Array

WINDOW, STRIDE = 100, 50  # samples at 50 Hz: two seconds, half of them new
TEST_PEOPLE = (8, 9, 10)
CLASSES = 7


def load_watch() -> tuple[Data, Data]:
    """Training and test windows.

    `motion` is (n, 100, 6) float32: three accelerations and three rotations, each with mean 0 and variance 1 over the
    training people. `y` is the exercise, 0 to 6.
    """
    try:
        import seglearn
    except ImportError as problem:
        raise EngineError('the watch data is not installed: pip install "edgekit[examples]"') from problem
    path = Path(seglearn.__file__).with_name("data") / "watch_dataset.npy"
    recordings: dict[str, Any] = np.load(path, allow_pickle=True).item()
    windows, labels, people = _windows(recordings)
    test = np.isin(people, TEST_PEOPLE)
    mean, deviation = windows[~test].mean(axis=(0, 1)), windows[~test].std(axis=(0, 1))
    windows = ((windows - mean) / deviation).astype(np.float32)
    return (
        Data({"motion": windows[~test]}, labels[~test], "watch, seven people"),
        Data({"motion": windows[test]}, labels[test], "watch, three other people"),
    )


def watch_cnn(channels: int = 64, dropout: float = 0.4) -> Any:
    """Four convolutions over time and a classifier; logits out.

    A student does better without dropout, whose noise it cannot tell from what the teacher says.
    """
    keras = import_keras()
    layers = keras.layers
    motion = outputs = keras.Input((WINDOW, 6), name="motion")
    for index, (filters, strides) in enumerate(((channels, 1), (channels, 2), (2 * channels, 1), (2 * channels, 2))):
        outputs = layers.Conv1D(filters, 5, strides, "same", use_bias=False, name=f"conv{index}")(outputs)
        outputs = layers.BatchNormalization(momentum=0.9, name=f"norm{index}")(outputs)
        outputs = layers.ReLU(name=f"relu{index}")(outputs)
    outputs = layers.GlobalAveragePooling1D(name="pool")(outputs)
    outputs = layers.Dropout(dropout, name="dropout")(outputs)
    return keras.Model(motion, layers.Dense(CLASSES, name="scores")(outputs), name="watch")


def watch_gru(units: int = 48, *, streaming: bool = False) -> Any:
    """Two GRUs and a classifier; logits out. With `streaming`, of one sample in each call, with state in between.

    Both have the same weights, in the same order.
    """
    keras = import_keras()
    layers, keeps = keras.layers, {"stateful": streaming, "unroll": streaming}
    motion = keras.Input(batch_shape=(1, 1, 6) if streaming else (None, WINDOW, 6), name="motion")
    outputs = layers.GRU(units, return_sequences=True, name="gru0", **keeps)(motion)
    outputs = layers.GRU(units, name="gru1", **keeps)(outputs)
    return keras.Model(motion, layers.Dense(CLASSES, name="scores")(outputs), name="watch_stream")


def _windows(recordings: dict[str, Any]) -> tuple[Array, Array, Array]:
    """(windows, exercise of each, person of each)."""
    windows, labels, people = [], [], []
    for series, exercise, person in zip(recordings["X"], recordings["y"], recordings["subject"], strict=True):
        for start in range(0, len(series) - WINDOW + 1, STRIDE):
            windows.append(series[start : start + WINDOW])
            labels.append(exercise)
            people.append(person)
    return np.stack(windows), np.array(labels, np.int64), np.array(people)

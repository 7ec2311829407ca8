"""Small models whose weights the weight steps work on, and how their kernels are read."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from benchmarks import zoo
from edgekit.compression.kernels import kernels
from edgekit.loading import LoadedModel, describe

SMALL = ("transformer", "LSTM", "BiGRU", "Conv1D", "siamese", "nested", "several")


def small(name: str) -> LoadedModel:
    """One of the zoo's cheap architectures."""
    return describe(zoo.build(name))


def matrices(loaded: LoadedModel) -> dict[str, np.ndarray]:
    """The kernels as matrices, by name."""
    return {kernel.name: kernel.read() for kernel in kernels(loaded.model)}


def sparsity(matrix: np.ndarray) -> float:
    return float(np.mean(matrix == 0))


def texts(loaded: LoadedModel) -> dict[str, str]:
    """What was noted, by layer; the last note of each."""
    return {note.layer: note.text for note in loaded.notes}


def weights(loaded: LoadedModel) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in loaded.model.variables]


def same_weights(first: LoadedModel, second: LoadedModel) -> None:
    """Bit for bit."""
    for a, b in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def normalized() -> Any:
    """A model with adapted preprocessing inside a nested one."""
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(np.random.default_rng(0).normal(5, 3, (64, 8)).astype(np.float32))
    inner = keras.Sequential([keras.Input((8,)), normalization, layers.Dense(16, name="hidden")], name="inner")
    x = keras.Input((8,), name="x")
    return keras.Model(x, layers.Dense(4, name="head")(inner(x)), name="normalized")

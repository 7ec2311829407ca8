from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from edgekit.conversion import Layer
from edgekit.errors import ModelError
from edgekit.inspection import inspect
from tests.conftest import Digits


def test_a_keras_file_is_described(digits: Digits) -> None:
    found = inspect(digits.model)
    assert (found.format, found.bytes, found.parameters) == ("keras", digits.model.stat().st_size, 1498)
    assert [str(spec) for spec in found.inputs] == ["'image' (batch, 8, 8, 1) float32"]
    assert [str(spec) for spec in found.outputs] == ["'probabilities' (batch, 10) float32"]
    assert sum(layer.bytes for layer in found.layers) == 4 * 1498
    assert Layer("conv", "Conv2D", 288, "float32", 0.0) in found.layers
    assert Layer("relu", "ReLU", 0, "float32", None) in found.layers


def test_nested_models_are_flattened_and_biases_do_not_count_as_sparsity(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="inside")], name="inner")
    inner.layers[-1].set_weights([np.array([[1, 0], [2, 0], [3, 0], [4, 5]]), np.zeros(2)])
    keras.Sequential([keras.Input((4,), name="x"), inner], name="outer").save(tmp_path / "nested.keras")
    (layer,) = [layer for layer in inspect(tmp_path / "nested.keras").layers if layer.bytes]
    assert layer == Layer("inside", "Dense", 40, "float32", 3 / 8)


def test_a_missing_file_is_said_whatever_its_suffix(tmp_path: Path) -> None:
    for name in ("none.keras", "none.tflite", "none.onnx"):
        with pytest.raises(ModelError, match=rf"no file .*{name}"):
            inspect(tmp_path / name)

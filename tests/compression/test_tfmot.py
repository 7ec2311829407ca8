"""TFMOT is the second engine, and the oracle of the first: the same CNN through both."""

from __future__ import annotations

import os
import sys

import keras
import numpy as np
import pytest

import edgekit
from edgekit.compression.fake_quantization import Simulation
from edgekit.compression.steps import Engine
from edgekit.loading import LoadedModel
from tests.conftest import Digits

# Within the noise of two epochs from different optimizers on 297 held-back digits: 1.5 points are 4 digits.
MARGIN = 0.015


def kernels(loaded: LoadedModel) -> dict[str, np.ndarray]:
    return {layer.name: np.asarray(layer.kernel) for layer in loaded.model.layers if hasattr(layer, "kernel")}


def simulated_accuracy(loaded: LoadedModel, digits: Digits) -> float:
    assert loaded.activation_ranges is not None
    outputs = Simulation(loaded, loaded.activation_ranges).model.predict(digits.test["image"], verbose=0)
    return float(np.mean(outputs.argmax(axis=1) == digits.test["y"]))


@pytest.fixture(scope="module")
def pruned(loaded: LoadedModel, digits: Digits) -> dict[str, LoadedModel]:
    """By engine: masks chosen once from the same weights, which training then hardly moves."""

    def by(engine: Engine) -> LoadedModel:
        step = edgekit.Prune(0.5, epochs=1, schedule="constant", learning_rate=1e-9, engine=engine)
        return edgekit.compress(loaded, step, data=digits.few(320))

    return {"keras": by("keras"), "tfmot": by("tfmot")}


@pytest.fixture(scope="module")
def quantized(pruned: dict[str, LoadedModel], digits: Digits) -> dict[str, LoadedModel]:
    """By engine, from the same pruned model."""

    def by(engine: Engine) -> LoadedModel:
        return edgekit.compress(pruned["keras"], edgekit.QuantizeAware(epochs=2, engine=engine), data=digits.train)

    return {"keras": by("keras"), "tfmot": by("tfmot")}


def test_both_engines_zero_the_same_weights(pruned: dict[str, LoadedModel]) -> None:
    ours, theirs = kernels(pruned["keras"]), kernels(pruned["tfmot"])
    for name in ("conv", "probabilities"):
        assert np.sum(ours[name] == 0) == round(0.5 * ours[name].size)
        np.testing.assert_array_equal(theirs[name] == 0, ours[name] == 0)
        np.testing.assert_allclose(theirs[name], ours[name], atol=1e-5)
    assert np.all(theirs["depthwise"] != 0)


def test_both_engines_quantize_about_equally_well(
    quantized: dict[str, LoadedModel], loaded: LoadedModel, digits: Digits
) -> None:
    ours, theirs = (simulated_accuracy(quantized[engine], digits) for engine in ("keras", "tfmot"))
    assert abs(ours - theirs) <= MARGIN


def test_both_engines_find_the_same_activations(quantized: dict[str, LoadedModel]) -> None:
    """TFMOT's own ranges begin at (-6, 6) and move by a thousandth a step; given a start, they stay near the data."""
    ours, theirs = quantized["keras"].activation_ranges, quantized["tfmot"].activation_ranges
    assert ours is not None
    assert theirs is not None
    assert list(ours) == list(theirs)
    for name, (low, high) in ours.items():
        assert 2 * low - 0.01 <= theirs[name][0] <= 0, name
        assert 0.5 * high < theirs[name][1] < 2 * high, name
    assert theirs["probabilities"] == ours["probabilities"] == (0.0, 255 / 256)


def test_tfmots_kernels_lie_on_the_int8_grid_and_keep_their_zeros(
    pruned: dict[str, LoadedModel], quantized: dict[str, LoadedModel]
) -> None:
    found = kernels(quantized["tfmot"])
    for name, axes in {"conv": (0, 1, 2), "depthwise": (0, 1), "probabilities_linear": (0, 1)}.items():
        stored = found[name] / (np.abs(found[name]).max(axis=axes, keepdims=True) / 127)
        np.testing.assert_allclose(stored, np.rint(stored), atol=1e-4)
    for before, after in (("conv", "conv"), ("probabilities", "probabilities_linear")):
        assert np.all(found[after][kernels(pruned["keras"])[before] == 0] == 0)


def test_tfmot_does_not_disturb_this_process(quantized: dict[str, LoadedModel]) -> None:
    assert quantized["tfmot"].activation_ranges is not None
    assert keras.__version__.startswith("3.")
    assert "TF_USE_LEGACY_KERAS" not in os.environ
    assert "tf_keras" not in sys.modules
    assert "tensorflow_model_optimization" not in sys.modules

from __future__ import annotations

import numpy as np
import pytest
from keras import layers

import edgekit
from edgekit.compression.fake_quantization import trained_simulation
from edgekit.loading import LoadedModel
from tests.conftest import Digits


def accuracy(outputs: np.ndarray, digits: Digits) -> float:
    return float(np.mean(outputs.argmax(axis=1) == digits.test["y"]))


def kernel(loaded: LoadedModel, name: str) -> np.ndarray:
    return np.asarray(loaded.model.get_layer(name).kernel)


@pytest.fixture(scope="module")
def pruned(loaded: LoadedModel, digits: Digits) -> LoadedModel:
    return edgekit.compress(loaded, edgekit.Prune(0.5, epochs=1), data=digits.train)


@pytest.fixture(scope="module")
def quantized(pruned: LoadedModel, digits: Digits) -> LoadedModel:
    return edgekit.compress(pruned, edgekit.QuantizeAware(epochs=2), data=digits.train)


def test_every_kernel_lies_on_its_int8_grid(quantized: LoadedModel) -> None:
    axes: dict[str, tuple[int, ...]] = {"conv": (0, 1, 2), "depthwise": (0, 1), "probabilities_linear": (0, 1)}
    for name, scale_axes in axes.items():
        weights = kernel(quantized, name)
        stored = weights / (np.abs(weights).max(axis=scale_axes, keepdims=True) / 127)
        np.testing.assert_allclose(stored, np.rint(stored), atol=1e-4)


def test_zeros_of_pruning_stay_zero(pruned: LoadedModel, quantized: LoadedModel) -> None:
    for before, after in (("conv", "conv"), ("probabilities", "probabilities_linear")):
        zeros = kernel(pruned, before) == 0
        assert zeros.sum() == round(0.5 * zeros.size)
        assert np.all(kernel(quantized, after)[zeros] == 0)


def test_ranges_are_found_and_no_batch_normalization_is_left(quantized: LoadedModel) -> None:
    assert quantized.activation_ranges is not None
    assert set(quantized.activation_ranges) == {
        "image",
        "relu",
        "depthwise_relu",
        "probabilities_linear",
        "probabilities",
    }
    low, high = quantized.activation_ranges["image"]
    assert (low, high) == pytest.approx((0.0, 1.0))
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in quantized.model.layers)


def test_the_simulation_is_as_good_as_the_plain_model(
    quantized: LoadedModel, pruned: LoadedModel, digits: Digits
) -> None:
    columns = {"image": digits.test["image"]}
    plain = quantized.predict(columns)["probabilities"]
    simulated = trained_simulation(quantized).model.predict(digits.test["image"], verbose=0)
    assert np.mean(plain.argmax(axis=1) == simulated.argmax(axis=1)) > 0.98
    assert np.abs(plain - simulated).mean() < 0.01
    before = accuracy(pruned.predict(columns)["probabilities"], digits)
    assert accuracy(simulated, digits) > before - 0.02


def test_it_can_be_done_again_on_its_own_result(quantized: LoadedModel, digits: Digits) -> None:
    again = edgekit.compress(quantized, edgekit.QuantizeAware(epochs=1), data=digits.few(320))
    assert again.activation_ranges is not None
    assert quantized.activation_ranges is not None
    assert set(again.activation_ranges) == set(quantized.activation_ranges)

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.compression.canonical import canonical
from edgekit.compression.fake_quantization import Simulation, check_supported, on_grid
from edgekit.compression.quantize_aware import snapped
from edgekit.compression.simulation_layers import QuantizedKernel
from edgekit.errors import ModelError
from edgekit.loading import LoadedModel, describe
from tests.keras_models import folding, pair, samples, unfoldable


def observed(loaded: LoadedModel) -> Simulation:
    """A simulation that has seen some data."""
    simulation = Simulation(loaded)
    simulation.model(loaded.pack(samples(loaded.model, 64)), training=True)
    return simulation


def snr_db(wanted: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((got - wanted) ** 2)))


@pytest.mark.parametrize("make", [folding, pair])
def test_the_simulation_equals_the_model_within_quantization_error(make: Any) -> None:
    folded = canonical(describe(make()))
    simulation = observed(folded)
    plain = snapped(folded.model, simulation.ranges())
    columns = samples(folded.model, 64)
    simulated = keras.tree.flatten(simulation.model.predict(folded.pack(columns), verbose=0))
    for (name, wanted), got in zip(plain.predict(columns).items(), simulated, strict=True):
        assert not np.array_equal(got, wanted), name
        assert snr_db(wanted, got) > 25, name


def test_simulated_probabilities_lie_on_the_output_grid() -> None:
    folded = canonical(describe(folding()))
    outputs = observed(folded).model.predict(samples(folded.model)["image"], verbose=0) * 256
    np.testing.assert_allclose(outputs, np.rint(outputs), atol=1e-4)


def test_ranges_are_found_where_integer_kernels_have_them() -> None:
    ranges = observed(canonical(describe(pair()))).ranges()
    assert set(ranges) == {
        *("left", "right", "conv", "linear", "merged", "pooled", "shared", "widen", "both"),
        *("classes_linear", "classes", "score_linear", "score"),
    }
    assert all(low <= 0 <= high and low < high for low, high in ranges.values())
    assert ranges["classes"] == ranges["score"] == (0.0, 255 / 256)
    assert ranges["merged"][0] == 0


def test_the_range_of_a_first_batch_is_its_minimum_and_maximum() -> None:
    loaded = describe(keras.Sequential([keras.Input((4,), name="x"), layers.Dense(2, name="scores")]))
    columns = samples(loaded.model, 64)
    simulation = Simulation(loaded)
    simulation.model(loaded.pack(columns), training=True)
    assert simulation.ranges()["x"] == pytest.approx((columns["x"].min(), columns["x"].max()))


def test_known_ranges_are_set_and_kept() -> None:
    folded = canonical(describe(folding()))
    ranges = observed(folded).ranges()
    again = Simulation(folded, ranges)
    again.model.predict(samples(folded.model)["image"], verbose=0)
    assert again.ranges() == ranges


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (layers.Conv2D(6, 3), (8, 8, 4), (0, 1, 2)),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), (0, 1)),
        (layers.Dense(6), (5,), (0, 1)),
    ],
)
def test_a_snapped_kernel_lies_exactly_on_its_int8_grid(layer: Any, shape: Any, axes: tuple[int, ...]) -> None:
    layer.build((None, *shape))
    kernel = np.random.default_rng(0).normal(0, 1, layer.kernel.shape).astype(np.float32)
    snapped_kernel = on_grid(layer, kernel)
    largest = np.abs(kernel).max(axis=axes, keepdims=True)
    np.testing.assert_allclose(np.abs(snapped_kernel).max(axis=axes, keepdims=True), largest, rtol=1e-6)
    stored = snapped_kernel / (largest / 127)
    np.testing.assert_allclose(stored, np.rint(stored), atol=1e-4)
    assert np.abs(snapped_kernel - kernel).max() <= largest.max() / 127 / 2 * 1.0001
    np.testing.assert_allclose(on_grid(layer, snapped_kernel), snapped_kernel, rtol=1e-6)


@pytest.mark.parametrize("name", ["conv0", "depthwise", "hidden"])
def test_a_simulated_layer_computes_with_its_snapped_kernel_and_keeps_its_own(name: str) -> None:
    layer = folding().get_layer(name)
    tensor = np.random.default_rng(0).uniform(-1, 1, (4, *layer.input.shape[1:])).astype(np.float32)
    own = np.asarray(layer.kernel)
    simulated = QuantizedKernel(layer)(tensor)
    np.testing.assert_array_equal(np.asarray(layer.kernel), own)
    plain = np.asarray(layer(tensor))
    layer.kernel.assign(on_grid(layer, own))
    np.testing.assert_allclose(simulated, layer(tensor), atol=1e-4)
    assert np.abs(plain - simulated).max() > 1e-3


def test_zeros_and_all_zero_channels_stay_zero() -> None:
    layer = layers.Conv2D(2, 1)
    layer.build((None, 4, 4, 3))
    kernel = np.zeros((1, 1, 3, 2), np.float32)
    kernel[0, 0, 1, 0] = 0.3
    assert np.array_equal(on_grid(layer, kernel), kernel)


def one_layer(layer: Any, *shape: int) -> LoadedModel:
    return describe(keras.Sequential([keras.Input(shape, name="x"), layer]))


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        (lambda: one_layer(layers.LSTM(3, name="memory"), 4, 2), "unsupported layer 'memory' of type LSTM"),
        (lambda: one_layer(layers.Conv1D(3, 2, name="wave"), 8, 2), "unsupported layer 'wave' of type Conv1D"),
        (
            lambda: one_layer(layers.LayerNormalization(name="level"), 4),
            "unsupported layer 'level' of type LayerNormalization",
        ),
        (lambda: one_layer(layers.Dense(3, name="deep"), 8, 2), "layer 'deep' (Dense) gives (None, 8, 3)"),
        (lambda: describe(unfoldable()), "of type BatchNormalization"),
    ],
)
def test_a_layer_that_cannot_be_simulated_is_named_with_its_type(loaded: Any, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        Simulation(canonical(loaded()))
    assert message in str(caught.value)
    assert "leave the step out: int8 by calibration takes more layers" in str(caught.value)


def test_a_model_that_is_not_in_canonical_form_is_refused() -> None:
    with pytest.raises(ModelError, match=r"layer 'classes' is not in canonical form"):
        check_supported(one_layer(layers.Dense(3, activation="tanh", name="classes"), 4).model)

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgekit
from benchmarks import zoo
from edgekit.compression import TrainingSettings
from edgekit.compression.fake_quantization import trained_simulation
from edgekit.compression.grids import FLOAT_BITS, Grid
from edgekit.errors import ConfigError, DataError
from edgekit.loading import LoadedModel, Note, describe, load
from tests.compression.conftest import Interrupting
from tests.conftest import Digits

OWN_OUTPUTS = TrainingSettings(loss="original-outputs")
CHEAP = ("transformer", "BiGRU", "several")
HEAVY = tuple(name for name in zoo.ARCHITECTURES if name not in CHEAP)


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


def simulated(loaded: LoadedModel, columns: dict[str, np.ndarray]) -> np.ndarray:
    outputs = trained_simulation(loaded).model.predict(loaded.pack(columns), verbose=0)
    return np.asarray(keras.tree.flatten(outputs)[0])


def test_without_epochs_the_ranges_of_the_data_are_found_and_no_labels_are_needed(
    loaded: LoadedModel, digits: Digits
) -> None:
    image = digits.train["image"][:100] * 3
    calibrated = edgekit.compress(loaded, edgekit.QuantizeAware(epochs=0), data={"image": image})
    assert calibrated.activation_ranges is not None
    assert calibrated.activation_ranges["image"] == (image.min(), image.max())
    for name, axes in (("conv", 1), ("depthwise", 2), ("probabilities_linear", 0)):
        assert Grid(8, axes).scales(kernel(calibrated, name)) is not None
    with pytest.raises(DataError, match="step 'quantize-aware' needs training data"):
        edgekit.compress(loaded, edgekit.QuantizeAware(epochs=0))


def test_one_epoch_keeps_ranges_near_those_of_the_data(loaded: LoadedModel, digits: Digits) -> None:
    few = digits.few(128)
    calibrated = edgekit.compress(loaded, edgekit.QuantizeAware(epochs=0), data=few)
    trained = edgekit.compress(loaded, edgekit.QuantizeAware(epochs=1, batch_size=16), data=few)
    assert calibrated.activation_ranges is not None
    assert trained.activation_ranges is not None
    for name, (_, high) in calibrated.activation_ranges.items():
        assert trained.activation_ranges[name][1] == pytest.approx(high, rel=0.25)


@pytest.mark.parametrize(("bits", "levels"), [(4, 7), (2, 1)])
def test_kernels_of_few_bits_have_few_levels(
    loaded: LoadedModel, digits: Digits, tmp_path: Path, bits: Any, levels: int
) -> None:
    few = edgekit.compress(loaded, edgekit.QuantizeAware(epochs=1, bits=bits), data=digits.few(320))
    assert few.weight_bits == dict.fromkeys(("conv", "depthwise", "probabilities_linear"), bits)
    channels = {"conv": (-1, 8), "depthwise": (-1, 8), "probabilities_linear": (-1, 1)}
    for name, shape in channels.items():
        counts = [len(np.unique(channel)) for channel in kernel(few, name).reshape(shape).T]
        assert 2 <= max(counts) <= 2 * levels + 1, name
    few.save(tmp_path / "few.keras")
    again = load(tmp_path / "few.keras")
    assert (again.weight_bits, again.activation_ranges) == (few.weight_bits, few.activation_ranges)
    columns = {"image": digits.test["image"]}
    np.testing.assert_array_equal(simulated(again, columns), simulated(few, columns))
    plain = keras.saving.load_model(tmp_path / "few.keras", compile=False)
    np.testing.assert_allclose(plain.predict(columns["image"], verbose=0), few.predict(columns)["probabilities"])


def test_training_at_2_bits_is_clearly_ahead_of_rounding_to_2_bits(loaded: LoadedModel, digits: Digits) -> None:
    settings = {"bits": 2, "learning_rate": 1e-3}
    columns = {"image": digits.test["image"]}
    rounded = edgekit.compress(loaded, edgekit.QuantizeAware(epochs=0, **settings), data=digits.train)
    trained = edgekit.compress(loaded, edgekit.QuantizeAware(epochs=3, **settings), data=digits.train)
    assert accuracy(simulated(trained, columns), digits) > accuracy(simulated(rounded, columns), digits) + 0.05


@pytest.mark.slow
def test_training_at_4_bits_lowers_the_loss_of_rounding_to_4_bits(loaded: LoadedModel, digits: Digits) -> None:
    columns = {"image": digits.test["image"]}

    def loss(epochs: int) -> float:
        step = edgekit.QuantizeAware(epochs=epochs, bits=4, learning_rate=1e-3)
        outputs = simulated(edgekit.compress(loaded, step, data=digits.train), columns)
        return float(np.mean(keras.losses.sparse_categorical_crossentropy(digits.test["y"], outputs)))

    assert loss(3) < 0.95 * loss(0)


def test_layers_have_bits_of_their_own_or_are_skipped(loaded: LoadedModel, digits: Digits) -> None:
    layers_of_its_own = {"*conv": {"bits": 4}, "prob*": "skip"}
    mixed = edgekit.compress(loaded, edgekit.QuantizeAware(epochs=1, layers=layers_of_its_own), data=digits.few(320))
    assert mixed.weight_bits == {"conv": 4, "probabilities_linear": FLOAT_BITS}
    assert Grid(4, 1).scales(kernel(mixed, "conv")) is not None
    assert Grid(8, 2).scales(kernel(mixed, "depthwise")) is not None
    assert Grid(8).scales(kernel(mixed, "probabilities_linear")) is None
    assert mixed.notes == (Note("quantize-aware", "probabilities_linear", "stays float: skipped"),)
    assert mixed.activation_ranges is not None
    assert "probabilities_linear" in mixed.activation_ranges  # the softmax after it takes integers
    assert "stays float: skipped" in mixed.summary()


def test_a_pattern_that_matches_no_kernel_is_refused(loaded: LoadedModel, digits: Digits) -> None:
    step = edgekit.QuantizeAware(layers={"convv": {"bits": 4}})
    with pytest.raises(ConfigError, match=r"layers\['convv'\] matches no layer of this step; did you mean 'conv'"):
        edgekit.compress(loaded, step, data=digits.few(64))


def test_patterns_match_the_names_of_the_model_that_was_given() -> None:
    nested = describe(zoo.build("nested"))  # its last layer becomes 'head' when it is flattened
    data = zoo.inputs(nested.model, 8)
    step = edgekit.QuantizeAware(epochs=0, layers={"scores": "skip", "stem": {"bits": 2}})
    assert edgekit.compress(nested, step, data=data).weight_bits == {"head": FLOAT_BITS, "stem": 2}


def test_a_killed_run_ends_as_the_uninterrupted_one(loaded: LoadedModel, digits: Digits, tmp_path: Path) -> None:
    recipe, few = edgekit.QuantizeAware(epochs=3, bits=4), digits.few(320)
    whole = edgekit.compress(loaded, recipe, data=few)
    with pytest.raises(KeyboardInterrupt):
        edgekit.compress(
            loaded, recipe, data=few, checkpoints=tmp_path, progress=Interrupting("quantization-aware training", 8)
        )
    resumed = edgekit.compress(loaded, recipe, data=few, checkpoints=tmp_path)
    assert resumed.activation_ranges == whole.activation_ranges
    for first, second in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def distinct(loaded: LoadedModel, name: str) -> int:
    return len(np.unique(kernel(loaded, name)))


@pytest.fixture(scope="module")
def clustered(loaded: LoadedModel, digits: Digits) -> LoadedModel:
    sparse = edgekit.Prune(0.7, epochs=1)
    return edgekit.compress(loaded, sparse, edgekit.Cluster(8, epochs=1), data=digits.train)


@pytest.mark.parametrize("bits", [8, 4])
def test_zeros_and_shared_values_are_kept_together(clustered: LoadedModel, digits: Digits, bits: Any) -> None:
    both = edgekit.compress(clustered, edgekit.QuantizeAware(epochs=1, bits=bits), data=digits.train)
    for before, after in (("conv", "conv"), ("probabilities", "probabilities_linear")):
        zeros = kernel(clustered, before) == 0
        assert zeros.mean() >= 0.69
        np.testing.assert_array_equal(kernel(both, after) == 0, zeros | (kernel(both, after) == 0))
        assert 1 < distinct(both, after) <= distinct(clustered, before) <= 8
        assert Grid(bits).scales(kernel(both, after)) is not None  # one scale for the kernel
    # not folded, or each channel would have values of its own
    assert any(isinstance(layer, layers.BatchNormalization) for layer in both.model.layers)
    columns = {"image": digits.test["image"]}
    expected, got = both.predict(columns)["probabilities"], simulated(both, columns)
    assert np.mean(expected.argmax(axis=1) == got.argmax(axis=1)) > 0.97
    assert accuracy(got, digits) > accuracy(clustered.predict(columns)["probabilities"], digits) - 0.03


def test_shared_values_are_let_go_on_request(clustered: LoadedModel, digits: Digits) -> None:
    step = edgekit.QuantizeAware(epochs=1, preserve_clusters=False, preserve_sparsity=False, learning_rate=1e-2)
    free = edgekit.compress(clustered, step, data=digits.few(320))
    assert distinct(free, "conv") > 16
    assert np.mean(kernel(free, "conv") == 0) < np.mean(kernel(clustered, "conv") == 0)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in free.model.layers)


def one_step(name: str) -> None:
    """One training step; the result is plain Keras, its simulation is near the model."""
    model = zoo.build(name)
    data = zoo.inputs(model, 4)
    step = edgekit.QuantizeAware(epochs=1, batch_size=4, learning_rate=1e-5)
    done = edgekit.compress(model, step, data=data, training=OWN_OUTPUTS)
    columns = dict(zip((spec.name for spec in done.inputs), data.values(), strict=True))
    wanted, got = next(iter(done.predict(columns).values())), simulated(done, columns)
    assert np.all(np.isfinite(got))
    assert 10 < 10 * np.log10(np.sum(wanted**2) / np.sum((wanted - got) ** 2)) < 90
    assert all(note.text.startswith("stays float: ") for note in done.notes)


@pytest.mark.parametrize("name", CHEAP)
def test_small_architectures_train_one_step(name: str) -> None:
    one_step(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_large_architectures_train_one_step(name: str) -> None:
    one_step(name)

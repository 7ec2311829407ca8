from __future__ import annotations

from typing import Any

import keras
import pytest
from keras import layers

from edgekit.compression.macs import macs


def model_of(shape: tuple[int, ...], *stack: Any) -> Any:
    return keras.Sequential([keras.Input(shape), *stack])


@pytest.mark.parametrize(
    ("shape", "layer", "expected"),
    [
        ((8, 8, 3), layers.Conv2D(5, 3, strides=2, padding="same"), 4 * 4 * 3 * 3 * 3 * 5),
        ((8, 8, 6), layers.Conv2D(4, 3, groups=2), 6 * 6 * 3 * 3 * 3 * 4),
        ((8, 8, 6), layers.DepthwiseConv2D(3, depth_multiplier=2), 6 * 6 * 3 * 3 * 6 * 2),
        ((8, 8, 6), layers.SeparableConv2D(7, 3), 6 * 6 * (3 * 3 * 6 + 6 * 7)),
        ((8, 8, 6), layers.Conv2DTranspose(7, 2, strides=2), 8 * 8 * 2 * 2 * 6 * 7),
        ((9, 4), layers.Conv1D(5, 3), 7 * 3 * 4 * 5),
        ((6,), layers.Dense(4), 24),
        ((5, 6), layers.Dense(4), 5 * 24),
        ((5, 6), layers.EinsumDense("abc,cde->abde", (5, 2, 3)), 5 * 6 * 2 * 3),
        ((5, 6), layers.LSTM(3), 5 * (6 + 3) * 12),
        ((5, 6), layers.GRU(3), 5 * (6 + 3) * 9),
        ((5, 6), layers.Bidirectional(layers.GRU(3)), 2 * 5 * (6 + 3) * 9),
        ((5, 8, 8, 3), layers.TimeDistributed(layers.Conv2D(4, 3)), 5 * 6 * 6 * 9 * 3 * 4),
        ((6,), layers.BatchNormalization(), 0),
    ],
)
def test_one_layer(shape: tuple[int, ...], layer: Any, expected: int) -> None:
    assert macs(model_of(shape, layer)) == expected


def test_attention_counts_its_projections_and_both_products() -> None:
    query, value = keras.Input((5, 6)), keras.Input((7, 4))
    model = keras.Model([query, value], layers.MultiHeadAttention(2, 3, value_dim=4)(query, value))
    projections = 5 * 6 * 6 + 7 * 4 * 6 + 7 * 4 * 8 + 5 * 8 * 6
    assert macs(model) == projections + 2 * 5 * 7 * (3 + 4)


def test_products_of_tensors() -> None:
    left, right = keras.Input((5, 6)), keras.Input((6, 7))
    assert macs(keras.Model([left, right], keras.ops.matmul(left, right))) == 5 * 6 * 7
    assert macs(keras.Model([left, right], keras.ops.einsum("bij,bjk->bik", left, right))) == 5 * 6 * 7
    assert macs(keras.Model([left, right], layers.Dot(axes=(2, 1))([left, right]))) == 5 * 6 * 7


def test_a_shared_nested_model_counts_each_time() -> None:
    encoder = model_of((6,), layers.Dense(4))
    left, right = keras.Input((6,)), keras.Input((6,))
    assert macs(keras.Model([left, right], layers.Subtract()([encoder(left), encoder(right)]))) == 2 * 24


def test_mobilenet_has_the_figure_that_its_paper_gives() -> None:
    """Sandler et al. 2018, table 4: 300 M multiply-adds at 224."""
    assert macs(keras.applications.MobileNetV2(weights=None)) == 300_774_272

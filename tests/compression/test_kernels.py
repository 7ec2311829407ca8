from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks import zoo
from edgekit.compression.kernels import Kernel, kernels, unknown_tables


def only(layer: Any, *shape: int) -> Kernel:
    x = keras.Input(shape)
    (kernel,) = kernels(keras.Model(x, layer(x)))
    return kernel


@pytest.mark.parametrize(
    ("layer", "shape", "kind", "rows", "columns", "input_channels"),
    [
        (layers.Dense(5), (3,), "kernel", 3, 5, 3),
        (layers.Conv2D(5, (3, 2)), (8, 8, 4), "kernel", 24, 5, 4),
        (layers.Conv2D(6, 3, groups=2), (8, 8, 4), "kernel", 18, 6, 2),
        (layers.Conv2DTranspose(5, 3), (8, 8, 4), "kernel", 36, 5, 4),
        (layers.Conv1D(5, 3), (8, 4), "kernel", 12, 5, 4),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), "depthwise", 9, 8, 3),
        (layers.EinsumDense("abc,cde->abde", (6, 3, 5)), (6, 4), "kernel", 4, 15, 4),
        (layers.EinsumDense("abde,dec->abc", (6, 7)), (6, 3, 5), "kernel", 15, 7, 15),
        (layers.TimeDistributed(layers.Dense(5)), (6, 4), "kernel", 4, 5, 4),
    ],
)
def test_a_kernel_is_a_matrix_of_what_is_summed_and_what_comes_out(
    layer: Any, shape: tuple[int, ...], kind: str, rows: int, columns: int, input_channels: int
) -> None:
    kernel = only(layer, *shape)
    found = (kernel.kind, kernel.rows, kernel.columns, kernel.input_channels, kernel.size)
    assert found == (kind, rows, columns, input_channels, rows * columns)
    matrix = kernel.read()
    assert (matrix.shape, matrix.dtype) == ((rows, columns), np.float32)
    kernel.write(matrix * 2)
    np.testing.assert_array_equal(kernel.read(), matrix * 2)
    np.testing.assert_array_equal(kernel.from_matrix(kernel.to_matrix(np.asarray(kernel.variable))), kernel.variable)


def test_a_column_makes_one_output_channel() -> None:
    """With all but one column zero, only that channel answers."""
    for layer, shape in ((layers.Conv2DTranspose(4, 3, use_bias=False), (5, 5, 3)), (layers.Dense(4), (5,))):
        x = keras.Input(shape)
        model = keras.Model(x, layer(x))
        (kernel,) = kernels(model)
        kernel.write(np.where(np.arange(4) == 2, np.ones((kernel.rows, 1), np.float32), 0))
        outputs = np.asarray(model(np.ones((1, *shape), np.float32))).reshape(-1, 4)
        assert (np.abs(outputs).sum(axis=0) > 0).tolist() == [False, False, True, False]


def test_parts_of_layers_have_their_owners_before_their_names() -> None:
    names = [kernel.name for kernel in kernels(zoo.build("transformer"))]
    assert names[:3] == ["embedding", "attention_0/query", "attention_0/key"]
    assert [kernel.name for kernel in kernels(zoo.build("BiGRU"))][:2] == [
        "bigru/forward_gru/gru_cell",
        "bigru/forward_gru/gru_cell/recurrent_kernel",
    ]
    x = keras.Input((8, 8, 3))
    found = kernels(keras.Model(x, layers.SeparableConv2D(4, 3, name="separable")(x)))
    assert [(kernel.name, kernel.kind) for kernel in found] == [
        ("separable/depthwise_kernel", "depthwise"),
        ("separable/pointwise_kernel", "kernel"),
    ]


def test_shared_layers_are_listed_once_and_nested_ones_by_their_own_names() -> None:
    assert [kernel.name for kernel in kernels(zoo.build("siamese"))] == ["hidden", "code", "logits"]


def test_frozen_kernels_are_listed_apart() -> None:
    x = keras.Input((3,))
    frozen = layers.Dense(4, name="frozen")
    model = keras.Model(x, layers.Dense(2, name="open")(frozen(x)))
    frozen.trainable = False
    assert [kernel.name for kernel in kernels(model)] == ["open"]
    assert [kernel.name for kernel in kernels(model, frozen=True)] == ["frozen"]


def test_tables_that_are_no_kernels_are_named() -> None:
    x = keras.Input((4, 6))
    model = keras.Model(x, layers.PReLU(name="rectified")(layers.Dense(6)(x)))
    assert unknown_tables(model) == [("rectified", "alpha", (4, 6))]
    assert unknown_tables(zoo.build("transformer")) == []
    assert unknown_tables(zoo.build("BiGRU")) == []

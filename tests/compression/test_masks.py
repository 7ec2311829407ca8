from __future__ import annotations

import keras
import numpy as np
from keras import layers

from edgekit.compression.masks import Masks, earlier_zeros, zeros_kept


def variable(values: object) -> keras.Variable:
    return keras.Variable(np.asarray(values, np.float32))


def test_masks_start_from_the_zeros_that_are_there() -> None:
    kernel = variable([[0.0, 1.0], [2.0, 0.0]])
    masks = Masks([kernel])
    kernel.assign([[5.0, 6.0], [7.0, 8.0]])
    masks.apply()
    assert np.asarray(kernel).tolist() == [[0.0, 6.0], [7.0, 0.0]]


def test_a_zero_is_a_plain_zero() -> None:
    kernel = variable([[0.0, 1.0]])
    masks = Masks([kernel])
    kernel.assign([[-5.0, 1.0]])
    masks.apply()
    assert not np.signbit(np.asarray(kernel)).any()  # a negative zero packs badly, and is another value


def test_masks_come_back_from_their_arrays() -> None:
    first, second = variable([[1.0, 0.0]]), variable([[0.0], [2.0]])
    arrays = Masks([first, second]).arrays()
    first.assign([[0.0, 3.0]])
    second.assign([[4.0], [4.0]])
    masks = Masks([first, second])
    masks.restore(arrays)
    masks.apply()
    assert np.asarray(first).tolist() == [[0.0, 0.0]]
    assert np.asarray(second).tolist() == [[0.0], [4.0]]


def test_a_mask_that_is_set_or_kept_counts() -> None:
    kernel = variable([[1.0, 2.0]])
    masks = Masks([kernel])
    masks.set([np.array([[True, False]])])
    masks.apply()
    assert np.asarray(kernel).tolist() == [[1.0, 0.0]]
    kernel.assign([[0.0, 2.0]])
    masks.keep()
    kernel.assign([[7.0, 2.0]])
    masks.apply()
    assert np.asarray(kernel).tolist() == [[0.0, 2.0]]


def test_while_masks_are_held_every_update_keeps_the_zeros() -> None:
    kernel = variable([[0.0, 1.0], [2.0, 3.0]])
    kernel.constraint = keras.constraints.NonNeg()
    own, masks = kernel.constraint, Masks([kernel])
    optimizer = keras.optimizers.SGD(1.0)
    with masks.held():
        optimizer.apply([np.full((2, 2), 2.0, np.float32)], [kernel])
        assert np.asarray(kernel).tolist() == [[0.0, 0.0], [0.0, 1.0]]
        masks.set([np.array([[True, True], [True, False]])])
        optimizer.apply([np.full((2, 2), -1.0, np.float32)], [kernel])
        assert np.asarray(kernel).tolist() == [[1.0, 1.0], [1.0, 0.0]]
    assert kernel.constraint is own


def test_a_kernel_of_zeros_alone_was_made_so_to_be_trained() -> None:
    assert not earlier_zeros(np.zeros((2, 2))).any()
    assert earlier_zeros(np.eye(2)).tolist() == [[False, True], [True, False]]


def test_zeros_of_all_kernels_are_kept_but_of_those_that_are_named() -> None:
    x = keras.Input((2,), name="x")
    model = keras.Model(x, layers.Dense(2, name="second")(layers.Dense(2, name="first")(x)))
    kernels = [model.get_layer(name).kernel for name in ("first", "second")]
    for kernel in kernels:
        kernel.assign(np.eye(2))
    masks = zeros_kept(model, besides=[kernels[0]])
    for kernel in kernels:
        kernel.assign(np.full((2, 2), 3.0))
    masks.apply()
    assert np.asarray(kernels[0]).tolist() == [[3, 3], [3, 3]]
    assert np.asarray(kernels[1]).tolist() == [[3, 0], [0, 3]]
    assert np.asarray(model.get_layer("second").bias).tolist() == [0, 0]

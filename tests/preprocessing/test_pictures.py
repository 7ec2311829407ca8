"""Every picture is held against what TensorFlow and Keras make of it, in pixels from 0 to 255."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.preprocessing.declared import Picture
from edgekit.preprocessing.pictures import prepare

CLOSE = 1e-5 * 255
SIZES = [(224, 224), (97, 300), (5, 7), (451, 300)]


@pytest.fixture(scope="module")
def cat() -> np.ndarray:
    """(300, 451, 3) uint8."""
    from skimage import data

    return np.asarray(data.chelsea())


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    """Noise of a size at which float32 positions count: (1511, 2999, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (1511, 2999, 3), np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("interpolation", "antialias"),
    [("bilinear", False), ("bilinear", True), ("nearest", False), ("bicubic", True)],
)
def test_resize_is_tensorflows(cat: np.ndarray, size: tuple[int, int], interpolation: Any, antialias: bool) -> None:
    import tensorflow as tf

    theirs = tf.image.resize(cat, size, method=interpolation, antialias=antialias).numpy()
    (ours,) = prepare(cat, Picture(resize=size, interpolation=interpolation, antialias=antialias), where="")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=CLOSE)
    assert ours.dtype == np.float32


@pytest.mark.parametrize("antialias", [False, True])
def test_resize_of_a_large_picture(large: np.ndarray, antialias: bool) -> None:
    import tensorflow as tf

    theirs = tf.image.resize(large, (224, 225), antialias=antialias).numpy()
    (ours,) = prepare(large, Picture(resize=(224, 225), antialias=antialias), where="")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_fit_is_that_of_the_keras_layer(cat: np.ndarray, size: tuple[int, int], fit: Any) -> None:
    import keras

    layer = keras.layers.Resizing(*size, crop_to_aspect_ratio=fit == "crop", pad_to_aspect_ratio=fit == "pad")
    theirs = np.asarray(layer(cat[None].astype(np.float32)))
    np.testing.assert_allclose(prepare(cat, Picture(resize=size, fit=fit), where=""), theirs, rtol=0, atol=CLOSE)
    if fit == "pad":  # the layer does not take uint8 with it
        return
    whole = np.asarray(layer(cat[None]))  # of uint8 it makes uint8
    np.testing.assert_array_equal(prepare(cat, Picture(resize=size, fit=fit, round_pixels=True), where=""), whole)


def test_a_whole_training_side(cat: np.ndarray) -> None:
    """Resizing, CenterCrop, Rescaling and Normalization, in a Keras model, on a batch."""
    import keras

    layers = keras.layers
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    side = keras.Sequential(
        [
            layers.Resizing(256, 256, crop_to_aspect_ratio=True, antialias=True),
            layers.CenterCrop(224, 223),
            layers.Rescaling(1 / 255),
            layers.Normalization(mean=mean, variance=np.square(std)),
        ]
    )
    batch = np.stack([cat, cat[::-1]]).astype(np.float32)
    declared = Picture(
        resize=(256, 256), fit="crop", antialias=True, center_crop=(224, 223),
        mean=tuple(255 * value for value in mean), std=tuple(255 * value for value in std),
    )  # fmt: skip
    np.testing.assert_allclose(prepare(batch, declared, where=""), np.asarray(side(batch)), rtol=0, atol=1e-5)


def test_rescaling_with_an_offset(cat: np.ndarray) -> None:
    import keras

    theirs = np.asarray(keras.layers.Rescaling(1 / 127.5, offset=-1)(cat[None]))
    np.testing.assert_allclose(prepare(cat, Picture(mean=(127.5,), std=(127.5,)), where=""), theirs, rtol=0, atol=1e-6)


def test_colors(cat: np.ndarray) -> None:
    import tensorflow as tf

    gray = tf.image.rgb_to_grayscale(tf.cast(cat, tf.float32)).numpy()
    np.testing.assert_allclose(prepare(cat, Picture(color="grayscale"), where="")[0], gray, rtol=0, atol=CLOSE)
    np.testing.assert_array_equal(prepare(cat, Picture(color="BGR"), where="")[0], cat[..., ::-1])
    np.testing.assert_array_equal(prepare(cat[..., 0], Picture(), where="")[0], np.repeat(cat[..., :1], 3, -1))
    seen_through = np.concatenate([cat, np.zeros_like(cat[..., :1])], axis=-1)
    np.testing.assert_array_equal(prepare(seen_through, Picture(), where="")[0], cat)


def test_layout(cat: np.ndarray) -> None:
    first = prepare(cat, Picture(layout="channels_first"), where="")
    np.testing.assert_array_equal(first, cat.transpose(2, 0, 1)[None])
    assert first.flags.c_contiguous


def test_floats_are_pixels_as_well(cat: np.ndarray) -> None:
    declared = Picture(resize=(32, 32), std=(255.0,), mean=(0.0,))
    np.testing.assert_array_equal(prepare(cat.astype(np.float64), declared, where=""), prepare(cat, declared, where=""))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros(4, np.uint8), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 2, 3), np.uint8), np.zeros((2, 2, 3), bool)],
)
def test_what_is_no_picture(pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"here: pixels have shape .*, expected numbers of \(height, width\)"):
        prepare(pixels, Picture(), where="here")


def test_a_picture_smaller_than_its_crop() -> None:
    with pytest.raises(DataError, match="here: the picture is 8 × 20, expected at least 10 × 10 for its center_crop"):
        prepare(np.zeros((8, 20, 3), np.uint8), Picture(center_crop=(10, 10)), where="here")

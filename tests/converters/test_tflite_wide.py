"""Activations of 16 bits: room for values beyond calibration, and additions of any scales."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from edgekit_tflite import TFLiteOptions, converter
from edgekit_tflite.reading import read_model

from edgekit.exporting import export_source
from edgekit.loading import load
from tests.converters.test_tflite import run


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """A model that rescales pixels itself to -1..1, exported, and samples from 0 to 255."""
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 3), name="image")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    flat = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu", name="conv")(scaled))
    model = load(keras.Model(image, keras.layers.Dense(3, name="scores")(flat), name="net"))
    samples = np.random.default_rng(0).uniform(0, 255, (24, 4, 4, 3)).astype(np.float32)
    samples[:, 0, 0], samples[:, 0, 1] = 0, 255
    return model, export_source(model, tmp_path_factory.mktemp("pixels")), samples


def convert(pixels, precision, path, calibration=None, **settings):
    _, source, samples = pixels
    given = {"image": samples if calibration is None else calibration}
    chosen = converter.with_options(TFLiteOptions(**settings), where="settings")
    return chosen.convert(source, precision=precision, calibration=given, output=path / "x.tflite")


def decibels(pixels, artifact):
    model, _, samples = pixels
    expected = model.predict({"image": samples})["scores"]
    return 10 * np.log10(np.sum(expected**2) / np.sum((run(artifact, {"image": samples})["scores"] - expected) ** 2))


def scale_of(artifact, part):
    model = read_model(artifact.path)
    (found,) = {t.scales for op in model.operators for t in op.outputs if part in t.name and t.dtype.startswith("int")}
    return found[0]


def test_a_model_that_rescales_its_pixels_opens_with_sixteen_bits(pixels, tmp_path):
    assert decibels(pixels, convert(pixels, "int16x8", tmp_path)) > 40


def test_values_almost_twice_as_large_as_in_calibration_are_not_cut_off(pixels, tmp_path):
    flat = 127.5 + (pixels[2] - 127.5) / 1.8
    assert decibels(pixels, convert(pixels, "int16x8", tmp_path, calibration=flat)) > 40
    assert decibels(pixels, convert(pixels, "int8", tmp_path, calibration=flat)) < 20


def test_room_is_where_all_readers_have_sixteen_bits(pixels, tmp_path):
    assert convert(pixels, "int16x8", tmp_path).inputs[0].quantization.scale == pytest.approx(2 * 255 / 32767, rel=1e-3)
    narrow = scale_of(convert(pixels, "int8", tmp_path), "conv")
    mixed = convert(pixels, "int8", tmp_path, ops={"FULLY_CONNECTED": "int16x8"})
    assert mixed.inputs[0].quantization.scale == pytest.approx(255 / 255, rel=1e-3)
    assert scale_of(mixed, "conv") == narrow  # the convolution gives int8, though a dense layer reads it

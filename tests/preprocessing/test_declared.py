from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import ConfigError, DataError
from edgekit.manifest import Input
from edgekit.preprocessing.applying import preprocess, preprocess_all
from edgekit.preprocessing.declared import Audio, LogMel, Picture, Preprocessing, check_fits
from edgekit.strict import parse
from edgekit.tensors import TensorSpec

MEL = {"frame_length": 400, "frame_step": 160, "mel_bins": 40, "lower_hz": 80, "upper_hz": 7600}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "expected a table 'picture' or a table 'audio' of each input, one of them"),
        ({"picture": {}, "audio": {"sample_rate": 8000}}, "one of them"),
        ({"picture": {"rezise": [1, 1]}}, "unknown key 'rezise' in [picture]; did you mean 'resize'?"),
        ({"picture": {"resize": 224}}, "picture.resize is 224, expected a list"),
        ({"picture": {"resize": [0, 224]}}, "resize is [0, 224], expected [height, width] from 1 to 16384"),
        ({"picture": {"resize": [224, 10**9]}}, "expected [height, width] from 1 to 16384"),
        ({"picture": {"resize": [8, 8], "center_crop": [8, 9]}}, "center_crop [8, 9] does not fit into resize [8, 8]"),
        ({"picture": {"interpolation": "cubic"}}, "picture.interpolation is 'cubic'; did you mean 'bicubic'?"),
        ({"picture": {"interpolation": "bicubic"}}, "'bicubic' is for antialias = true"),
        ({"picture": {"mean": [1.0]}}, "mean and std go together"),
        ({"picture": {"mean": [0], "std": [0]}}, "std other than 0"),
        ({"picture": {"mean": [0, 0], "std": [1]}}, "mean has 2 numbers, expected 1 or 3"),
        ({"picture": {"mean": [0, 0, 0], "std": [1], "color": "grayscale"}}, "mean has 3 numbers, expected 1 or 1"),
        ({"audio": {}}, "missing key 'sample_rate' in [audio]"),
        ({"audio": {"sample_rate": 0}}, "sample_rate is 0, expected 1 to"),
        ({"audio": {"sample_rate": 8000, "log_mel": MEL}}, "upper_hz is 7600, expected at most half the sample_rate"),
        (
            {"audio": {"sample_rate": 16000, "samples": 399, "log_mel": MEL}},
            "frame_length 400 is more than samples 399",
        ),
        ({"audio": {"sample_rate": 16000, "log_mel": MEL | {"fft_length": 256}}}, "expected frame_length 400 or more"),
        ({"audio": {"sample_rate": 16000, "log_mel": MEL | {"mel_bins": 10**6}}}, "mel_bins is 1000000, expected 1 to"),
        ({"audio": {"sample_rate": 16000, "log_mel": MEL | {"lower_hz": 7600}}}, "expected 0 <= lower < upper"),
        ({"audio": {"sample_rate": 16000, "log_mel": MEL | {"log_offset": 0}}}, "log_offset is 0, expected"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Preprocessing, table, where="p.toml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("p.toml: ")


@pytest.mark.parametrize(
    ("declared", "shape"),
    [
        (Picture(resize=(8, 9)), (None, 8, 9, 3)),
        (Picture(resize=(8, 9), center_crop=(4, 5), color="grayscale"), (None, 4, 5, 1)),
        (Picture(resize=(8, 9), layout="channels_first"), (1, 3, 8, 9)),
        (Picture(), (None, 8, 9, 3)),
        (Picture(resize=(8, 9)), (None, None, None, 3)),
        (Audio(16000, samples=800), (None, 800)),
        (Audio(16000, samples=800), (None, 800, 1)),
        (Audio(16000, samples=800, log_mel=LogMel(400, 160, 40, 80.0, 7600.0)), (None, 3, 40)),
        (Audio(16000, log_mel=LogMel(400, 160, 40, 80.0, 7600.0)), (None, 3, 40, 1)),
    ],
)
def test_what_fits(declared: Any, shape: tuple[int | None, ...]) -> None:
    check_fits(wrapped(declared), TensorSpec("x", shape, "float32"), where="here")


@pytest.mark.parametrize(
    ("declared", "shape", "gives"),
    [
        (Picture(resize=(8, 9)), (None, 9, 8, 3), "(batch, 8, 9, 3)"),
        (Picture(), (None, 8, 8, 1), "(batch, ?, ?, 3)"),
        (Picture(resize=(8, 9)), (None, 8, 9), "(batch, 8, 9, 3)"),
        (Audio(16000, samples=800), (None, 800, 2), "(batch, 800)"),
        (Audio(16000, samples=800), (None, 801), "(batch, 800)"),
    ],
)
def test_what_does_not_fit(declared: Any, shape: tuple[int | None, ...], gives: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_fits(wrapped(declared), TensorSpec("x", shape, "float32"), where="here")
    assert str(caught.value).startswith(f"here: it gives {gives}, and the model takes 'x'")


def test_integer_inputs_are_rounded_and_cut() -> None:
    pixels = np.array([[[0.5], [1.5], [-3.0], [300.0]]], np.float32)
    spec = TensorSpec("x", (None, 1, 4, 1), "uint8")
    taken = preprocess(pixels, Preprocessing(Picture(color="grayscale")), spec)
    assert taken.dtype == np.uint8
    assert taken.ravel().tolist() == [0, 2, 0, 255]


def test_a_result_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"preprocessing of 'x': 'x' has shape \(1, 3, 3, 3\) float32, expected"):
        preprocess(np.zeros((3, 3, 3), np.uint8), Preprocessing(Picture()), TensorSpec("x", (None, 8, 8, 3), "float32"))


def test_inputs_without_a_preprocessing_pass() -> None:
    inputs = [
        Input("picture", (None, 2, 2, 1), "float32", None, Preprocessing(Picture(color="grayscale"))),
        Input("sound", (None, 4, 1), "float32", None, Preprocessing(audio=Audio(8000))),
        Input("length", (None, 1), "int64"),
    ]
    length = np.ones((1, 1), np.int64)
    raw = {"picture": np.zeros((2, 2), np.uint8), "sound": np.zeros(4, np.int16), "length": length}
    ready = preprocess_all(raw, inputs, where="here")
    assert ready["length"] is length
    assert (ready["picture"].shape, ready["sound"].shape) == ((1, 2, 2, 1), (1, 4, 1))
    with pytest.raises(DataError, match=r"here: unknown input 'pictur'; did you mean 'picture'\?"):
        preprocess_all({"pictur": length}, inputs, where="here")
    with pytest.raises(DataError, match="here: no preprocessing is declared"):
        preprocess_all({"length": length}, inputs[2:], where="here")


def wrapped(declared: Picture | Audio) -> Preprocessing:
    return Preprocessing(declared) if isinstance(declared, Picture) else Preprocessing(audio=declared)

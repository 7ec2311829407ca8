from __future__ import annotations

import numpy as np
import pytest

from edgekit.calibration import doubts, manifest_inputs, representative
from edgekit.data import Data
from edgekit.errors import ConfigError, DataError
from edgekit.manifest import Input
from edgekit.tensors import TensorSpec

IMAGE = (TensorSpec("image", (None, 2), "float32"),)
PIXELS = np.linspace(-1, 3, 200, dtype=np.float32).reshape(100, 2)


def test_samples_are_spread_over_the_data() -> None:
    data = representative({"image": PIXELS}, IMAGE, samples=10)
    assert len(data) == 10
    np.testing.assert_array_equal(data.inputs["image"][[0, -1]], PIXELS[[0, -1]])


def test_the_manifest_gets_the_range_of_the_samples() -> None:
    data = representative({"image": PIXELS}, IMAGE, samples=50)
    assert manifest_inputs(IMAGE, data) == (Input("image", (None, 2), "float32", (-1.0, 3.0)),)


def test_too_few_samples() -> None:
    with pytest.raises(ConfigError, match=r"calibration_samples is 5, expected at least 10"):
        representative({"image": PIXELS}, IMAGE, samples=5)
    with pytest.raises(DataError, match=r"calibration data: 4 samples, expected at least 10"):
        representative({"image": PIXELS[:4]}, IMAGE, samples=200)


def test_an_input_that_never_changes() -> None:
    with pytest.raises(DataError, match=r"'image' is 0.0 everywhere; give real samples"):
        representative({"image": np.zeros_like(PIXELS)}, IMAGE, samples=10)


def test_calibration_data_is_named_in_messages() -> None:
    with pytest.raises(DataError, match=r"^calibration data: no array named 'image'"):
        representative({"picture": PIXELS}, IMAGE, samples=10)


def given(images: np.ndarray, labels: np.ndarray | None = None, where: str = "calibration data") -> Data:
    return Data({"image": images}, labels, where)


def test_labels_of_any_kind_are_taken_since_ranges_need_none() -> None:
    data = representative({"image": PIXELS, "y": np.linspace(0, 1, 100)}, IMAGE, samples=10)
    assert doubts(data.take(np.tile(np.arange(10), 10))) == ()


def test_good_samples_raise_no_doubt() -> None:
    assert doubts(given(PIXELS, np.arange(100) % 10), given(PIXELS[::2] * 1.5, where="evaluation data")) == ()


def test_few_samples() -> None:
    (doubt,) = doubts(given(PIXELS[:99]))
    assert doubt == "calibration data: 99 samples; ranges measured on 100 or more hold better"


def test_samples_that_are_all_equal() -> None:
    (doubt,) = doubts(given(np.tile(PIXELS[:1], (100, 1))))
    assert doubt == "calibration data: all 100 samples of 'image' are equal; give different ones"


@pytest.mark.parametrize("labels", [np.full(100, 3), np.tile(np.eye(4)[1], (100, 1))], ids=["numbers", "one-hot"])
def test_samples_of_one_class(labels: np.ndarray) -> None:
    (doubt,) = doubts(given(PIXELS, labels))
    assert doubt == "calibration data: all 100 samples have the same label; give samples of every kind"


@pytest.mark.parametrize(
    ("scale", "shift", "doubted"), [(1, 0, 0), (1.9, 0, 0), (255, 0, 1), (1 / 255, 0, 1), (1, 9, 1)]
)
def test_ranges_that_are_not_those_of_the_evaluation_data(scale: float, shift: float, doubted: int) -> None:
    found = doubts(given(PIXELS), given(scale * PIXELS + shift, where="evaluation data (test.npz)"))
    assert len(found) == doubted
    if shift:
        assert found == (
            "calibration data: 'image' goes from -1 to 3, in the evaluation data (test.npz) from 8 to 12; "
            "prepare both in the same way",
        )


def test_ranges_of_whole_numbers_are_not_compared() -> None:
    words = np.arange(200).reshape(100, 2)
    assert doubts(given(words), given(words + 1000)) == ()

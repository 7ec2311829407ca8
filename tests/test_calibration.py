from __future__ import annotations

import numpy as np
import pytest

from edgekit.calibration import manifest_inputs, representative
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

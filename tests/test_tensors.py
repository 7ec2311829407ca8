from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.tensors import Quantization, TensorSpec, format_shape

IMAGE = TensorSpec("image", (None, 8, 8, 1), "float32")


def test_any_batch_is_accepted_and_nothing_else() -> None:
    assert IMAGE.accepts((1, 8, 8, 1))
    assert IMAGE.accepts((9, 8, 8, 1))
    assert not IMAGE.accepts((8, 8, 1))
    assert not IMAGE.accepts((1, 8, 8, 3))


@pytest.mark.parametrize(
    ("array", "got", "remedy"),
    [
        (np.zeros((2, 8, 8), np.float32), "(2, 8, 8) float32", ""),
        (np.zeros((2, 8, 8, 1), np.uint8), "(2, 8, 8, 1) uint8", "; convert it with .astype('float32')"),
    ],
)
def test_a_wrong_array_says_what_came_and_what_was_expected(array: np.ndarray, got: str, remedy: str) -> None:
    with pytest.raises(DataError) as caught:
        IMAGE.check(array, where="calibration data")
    assert str(caught.value) == (
        f"calibration data: 'image' has shape {got}, expected (batch, 8, 8, 1) float32{remedy}"
    )  # fmt: skip


def test_shapes_are_shown_with_the_batch_named() -> None:
    assert format_shape((None, 28, None)) == "(batch, 28, ?)"
    assert format_shape((3,)) == "(3,)"
    assert format_shape(()) == "()"
    assert str(IMAGE) == "'image' (batch, 8, 8, 1) float32"


def test_quantize_rounds_half_to_even_and_saturates() -> None:
    quantization = Quantization(0.5, -3)
    stored = quantization.quantize(np.array([0.0, 0.25, 0.75, 1.0, 1e9, -1e9], np.float32), "int8")
    assert stored.dtype == np.int8
    assert stored.tolist() == [-3, -3, -1, -1, 127, -128]


def test_dequantize_undoes_quantize_on_the_grid() -> None:
    quantization = Quantization(0.1, 12)
    stored = np.arange(-128, 128).astype(np.int8)
    real = quantization.dequantize(stored)
    assert real.dtype == np.float32
    assert real[0] == pytest.approx(-14.0)
    np.testing.assert_array_equal(quantization.quantize(real, "int8"), stored)

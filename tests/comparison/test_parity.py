from __future__ import annotations

import numpy as np
import pytest

from edgekit.comparison import compare_outputs
from edgekit.errors import DataError

SCORES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], np.float32)


def test_equal_outputs() -> None:
    parity = compare_outputs({"scores": SCORES}, {"scores": SCORES.copy()})
    assert parity.max_abs == 0
    assert parity.cosine == pytest.approx(1)
    assert parity.snr_db is None
    assert parity.top1_agreement == 1


def test_snr_is_the_ratio_of_powers_in_decibels() -> None:
    parity = compare_outputs({"a": np.full((4, 1), 10.0)}, {"a": np.full((4, 1), 11.0)})
    assert parity.snr_db == pytest.approx(20.0)
    assert parity.max_abs == pytest.approx(1.0)


def test_the_largest_difference_and_the_agreement() -> None:
    changed = SCORES.copy()
    changed[1] = [0.9, 0.0, 0.1]
    parity = compare_outputs({"scores": SCORES}, {"scores": changed})
    assert parity.max_abs == pytest.approx(0.8)
    assert parity.top1_agreement == 0.5


def test_opposite_outputs_have_a_cosine_of_minus_one() -> None:
    assert compare_outputs({"a": SCORES}, {"a": -SCORES}).cosine == pytest.approx(-1)


def test_all_zero_outputs_have_no_cosine_and_no_snr() -> None:
    parity = compare_outputs({"a": np.zeros((2, 1))}, {"a": np.ones((2, 1))})
    assert (parity.cosine, parity.snr_db, parity.max_abs) == (None, None, 1.0)


def test_every_output_counts_and_two_have_no_top1() -> None:
    reference = {"a": SCORES, "b": np.zeros((2, 4))}
    parity = compare_outputs(reference, {"b": np.full((2, 4), 0.5), "a": SCORES})
    assert parity.max_abs == 0.5
    assert parity.top1_agreement is None


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"b": SCORES}, r"outputs \['b'\] do not match \['a'\]"),
        ({"a": SCORES[:1]}, r"output 'a' has shape \(1, 3\), expected \(2, 3\)"),
    ],
)
def test_outputs_that_cannot_be_compared(outputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        compare_outputs({"a": SCORES}, outputs)

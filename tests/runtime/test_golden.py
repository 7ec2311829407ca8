from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.errors import BundleError
from edgekit.runtime import open_session
from edgekit.runtime.golden import GoldenResult, check_golden, read_golden
from tests.tiny_models import IMAGES, expected, pack


def checked(bundle_path: Path, variant: str = "tflite-fp32", limit: float = 1e-5) -> GoldenResult:
    with Bundle.open(bundle_path) as bundle, open_session(bundle, variant=variant) as session:
        return check_golden(session, read_golden(bundle), limit=limit)


def test_a_variant_that_agrees(tiny_bundle: Path) -> None:
    result = checked(tiny_bundle)
    assert result.passed
    assert result.max_error is not None
    assert result.max_error < 1e-6
    assert (result.samples, result.top1_agreement) == (len(IMAGES), 1.0)
    assert (result.variant, result.engine, result.accelerator) == ("tflite-fp32", "litert", "cpu (XNNPACK)")


def test_the_error_is_a_fraction_of_the_largest_magnitude(tmp_path: Path) -> None:
    golden = expected(IMAGES)
    largest = np.abs(golden).max()
    golden[0, 0] += 0.1 * largest
    result = checked(pack(tmp_path, golden={"scores": golden}), limit=0.09)
    assert result.max_error == pytest.approx(0.1 * largest / np.abs(golden).max(), rel=1e-4)
    assert not result.passed
    assert checked(pack(tmp_path / "again", golden={"scores": golden}), limit=0.11).passed


def test_top1_agreement_is_the_fraction_of_samples(tmp_path: Path) -> None:
    golden = expected(IMAGES)
    golden[:2] = -golden[:2]
    assert checked(pack(tmp_path, golden={"scores": golden})).top1_agreement == 0.75


@pytest.mark.parametrize("golden", [np.full((8, 3), np.nan, np.float32), np.zeros((7, 3), np.float32)])
def test_golden_outputs_that_cannot_be_compared(tmp_path: Path, golden: np.ndarray) -> None:
    result = checked(pack(tmp_path, golden={"scores": golden}), limit=1e9)
    assert not result.passed
    assert result.max_error is None


def test_other_names(tmp_path: Path) -> None:
    path = pack(tmp_path, golden={"score": expected(IMAGES)})
    with (
        Bundle.open(path) as bundle,
        pytest.raises(BundleError, match=r"golden.npz holds .*, expected .*/scores"),
    ):
        read_golden(bundle)

"""The device suite that holds int8 outputs to this machine's, told what other kernels give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edgekit_device_tests.here import run_here
from edgekit_device_tests.test_variants import test_int8_outputs_are_those_of_this_machine as hold

from edgekit.bundle import Bundle
from edgekit.devices import DeviceRun

VARIANT = "tflite-int8"
LEFT = "1 of 8 operators are not run by XNNPACK: SOFTMAX x 1"


def held(path: Path, *, step: float, notes: tuple[str, ...] = ()) -> Mapping[str, object]:
    """What the suite records of outputs that are `step` off in one value."""
    figures: dict[str, object] = {}
    with Bundle.open(path) as bundle:
        variant = bundle.variant(VARIANT)
        outputs, choice = run_here(bundle, variant)
        there = {name: np.array(array) for name, array in outputs.items()}
        next(iter(there.values())).flat[0] += step
        found = DeviceRun(there, replace(choice, notes=notes))
        hold(found, bundle, variant, lambda _, values: figures.update(values))
    return figures


def test_the_same_bits(tiny_bundle: Path) -> None:
    assert held(tiny_bundle, step=0.0, notes=(LEFT,))["values_unlike_here"] == 0


def test_another_value_of_the_same_kernels_fails(tiny_bundle: Path) -> None:
    with pytest.raises(AssertionError, match="1 values differ"):
        held(tiny_bundle, step=1.0)


def test_another_value_of_other_kernels_skips(tiny_bundle: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match=f"1 values differ, which other kernels may give: {LEFT}"):
        held(tiny_bundle, step=1.0, notes=(LEFT,))

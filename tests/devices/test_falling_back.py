"""The device suite that asks what ran a variant, told what a device may say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from edgekit_device_tests import test_accelerators
from edgekit_device_tests.here import run_here

from edgekit.bundle import Bundle
from edgekit.devices import DeviceRun
from edgekit.devices.native_runner import LEFT
from edgekit.runtime.choosing import Choice

VARIANT = "tflite-int8"
NAMED = "1 of 8 operators are not run by XNNPACK: SOFTMAX x 1"


def compare(path: Path, monkeypatch: pytest.MonkeyPatch, *, here: tuple[str, ...] = (), **there: Any) -> None:
    """A device that says `there`, against this machine, which leaves `here`."""
    with Bundle.open(path) as bundle:
        variant = bundle.variant(VARIANT)
        outputs, found = run_here(bundle, variant)
        mine: Choice = replace(found, notes=here)
        monkeypatch.setattr(test_accelerators, "run_here", lambda *_: (outputs, mine))
        run: Any = DeviceRun(outputs, replace(mine, **{"notes": (), **there}))
        traits: Any = SimpleNamespace(engines={})
        options: Any = SimpleNamespace(accelerator=None)
        test_accelerators.test_nothing_fell_back(run, bundle, variant, traits, options, lambda *_: None)


@pytest.mark.parametrize("there", [(), (NAMED,), (LEFT,)])
def test_leaving_what_is_left_here_too_passes(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...]
) -> None:
    compare(tiny_bundle, monkeypatch, here=(NAMED,), notes=there, package="the native runner")


@pytest.mark.parametrize("there", [NAMED, LEFT])
def test_leaving_operators_that_run_here_fails(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, there: str) -> None:
    with pytest.raises(AssertionError, match=r"not run by XNNPACK.*, and it runs all of them here"):
        compare(tiny_bundle, monkeypatch, notes=(there,))


def test_plain_kernels_fail(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match=r"cpu; .*cpu \(XNNPACK\) here"):
        compare(tiny_bundle, monkeypatch, accelerator="cpu")


def test_another_engine_is_nothing_to_compare_with(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception, match="nothing to compare with"):
        compare(tiny_bundle, monkeypatch, engine="onnxruntime")

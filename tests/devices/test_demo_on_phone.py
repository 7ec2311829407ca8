"""The demo's bundle, trained and converted here, on a phone without Python, over the real adbd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli import main
from tests.demos import demo_bundle
from tests.devices.phone import Phone


@pytest.fixture(scope="module")
def demo(running_phone: Phone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_bundle(tmp_path_factory)


@pytest.mark.usefixtures("native_cache")
def test_every_device_test_of_it_passes_there(
    demo: Path, running_phone: Phone, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", str(demo), "--device", running_phone.url(), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["failed"] == 0
    (device,) = report["devices"]
    figures = device["figures"]
    assert figures["tflite-int8"]["values_unlike_here"] == 0
    assert {name for name, said in figures.items() if said.get("median_ms")} == {
        "tflite-int8",
        "tflite-fp16",
        "tflite-fp32",
    }

"""The demo's bundle, trained and converted here, on the virtual board."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.boards import Board
from edgekit.cli import main
from tests.demos import demo_bundle

pytestmark = pytest.mark.slow  # its int8 outputs: test_virtual_board.py


@pytest.fixture(scope="module")
def demo(kept_board: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_bundle(tmp_path_factory)


def test_every_device_test_of_it_passes_there(demo: Path, board: Board, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(demo), "--device", board.url, "--require-device", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["failed"] == 0
    latency = [test for test in report["tests"] if test["name"].startswith("test_latency_and_memory")]
    assert [test["reason"] for test in latency] == 6 * ["its times would say nothing: it is a virtual board under QEMU"]
    (device,) = report["devices"]
    assert len(device["figures"]) == 6
    assert all(figures["max_error"] <= figures["max_error_limit"] for figures in device["figures"].values())
    assert device["figures"]["tflite-int8"]["values_unlike_here"] == 0

"""The demo's bundle, trained and converted here, on the virtual board."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.boards import Board
from edgekit.bundle import Bundle
from edgekit.cli import main
from edgekit.devices import deploy, opened_device
from edgekit.runtime.golden import read_golden

pytestmark = pytest.mark.slow

TIMEOUT_S = 1800.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    argv = [sys.executable, "-m", "edgekit", "demo", "-o", str(folder)]
    subprocess.run(argv, check=True, capture_output=True, timeout=TIMEOUT_S)
    (bundle,) = folder.glob("*.edgekit")
    return bundle


def test_int8_of_the_demo_is_the_same_bit_for_bit(demo: Path, board: Board) -> None:
    with Bundle.open(demo) as bundle:
        images = dict(read_golden(bundle).inputs)
    with opened_device(board.url) as there, opened_device("local:") as here:
        runs = [
            deploy(demo, device, timeout_s=TIMEOUT_S).run(images, variant="tflite-int8") for device in (there, here)
        ]
    assert {run.choice.accelerator for run in runs} == {"cpu (XNNPACK)"}
    for name, output in runs[0].outputs.items():
        np.testing.assert_array_equal(output, runs[1].outputs[name])


def test_every_device_test_of_the_demo_passes(demo: Path, board: Board, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(demo), "--device", board.url, "--require-device", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["failed"] == 0
    assert report["skipped"] == 6, "one latency test for each variant"
    assert all(figures["max_error"] <= figures["max_error_limit"] for figures in report["figures"].values())

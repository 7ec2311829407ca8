"""The demo's bundle, trained and converted here, on the virtual board."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.boards import Board
from edgekit.bundle import Bundle
from edgekit.cli import main
from edgekit.devices import deploy, opened_device
from edgekit.runtime.golden import read_golden
from tests.demos import demo_bundle

TIMEOUT_S = 1800.0


@pytest.fixture(scope="module")
def demo(kept_board: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_bundle(tmp_path_factory)


def test_its_int8_outputs_there_are_those_of_this_machine_bit_for_bit(demo: Path, board: Board) -> None:
    with Bundle.open(demo) as bundle:
        images = dict(read_golden(bundle).inputs)
    with opened_device(board.url) as there, opened_device("local:") as here:
        runs = [
            deploy(demo, device, timeout_s=TIMEOUT_S).run(images, variant="tflite-int8") for device in (there, here)
        ]
    assert {run.choice.accelerator for run in runs} == {"cpu (XNNPACK)"}
    for name, output in runs[0].outputs.items():
        np.testing.assert_array_equal(output, runs[1].outputs[name])


@pytest.mark.slow
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

"""A build whose bundle is timed and tested on a board."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgekit.cli import main
from tests.conftest import TorchDigits
from tests.devices.sshd import Board
from tests.test_end_to_end_onnx import write_project

PROJECT = """\
name = "torch"
version = "0.1.0"
model = "digits.onnx"
device = "{device}"

[data]
calibration = "train.npz"
evaluation = "test.npz"

[targets.jetson-orin-nano]
precision = "auto"

[budget]
max_metric_drop = 0.02
max_p90_ms = 1000
"""


def test_the_board_of_the_project_chooses_times_and_tests(
    torch_digits: TorchDigits, running_board: Board, tmp_path: Path
) -> None:
    url = running_board.url(python=sys.executable)
    project = write_project(tmp_path / "project", torch_digits, PROJECT.format(device=url))
    assert main(["build", str(project), "-o", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert f"timed on {url}" in " ".join(report["notes"])
    assert {variant["device"].split()[0] for variant in report["variants"]} == {url}
    assert report["device_tests"]["device"] == url
    assert report["device_tests"]["passed"] > 0


def test_a_device_that_is_not_there_is_said_before_the_work(
    torch_digits: TorchDigits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = write_project(tmp_path / "project", torch_digits)
    argv = ["build", str(project), "-o", str(tmp_path / "out"), "--device"]
    assert main([*argv, "usb:1"]) == 2
    assert "'usb:1' is not a device URL" in capsys.readouterr().err
    assert main([*argv, "ssh://127.0.0.1:9"]) == 3
    assert "ssh://127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli import test as test_verb
from edgekit.devices.testing import TestOutcome
from tests.tiny_models import IMAGES, Part, expected, float_onnx, pack, parts

Run = Callable[..., Any]


def test_a_bundle_that_passes(edgekit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")  # the caller's, and not ours
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option-either")
    monkeypatch.chdir(tmp_path)
    bundle = pack(tmp_path, parts()[1:2])
    ended = edgekit("test", bundle.name, "--junit", "junit.xml", "--json")
    assert ended.exit_code == 0, ended.stderr
    assert {key: ended.json[key] for key in ("passed", "failed", "skipped", "broken")} == {
        "passed": 4, "failed": 0, "skipped": 0, "broken": None,
    }  # fmt: skip
    assert "4 passed" in ended.stderr
    assert "tflite-int8.median_ms" in (tmp_path / "junit.xml").read_text()


def test_a_bundle_that_fails(edgekit: Run, tmp_path: Path) -> None:
    bundle = pack(tmp_path, parts()[1:2], golden={"scores": np.roll(expected(IMAGES), 1, axis=1)})
    ended = edgekit("test", bundle)
    assert ended.exit_code == 1
    assert ended.stdout == "3 passed, 1 failed, 0 skipped (tiny-1.0.0.edgekit on local:)\n"


def test_a_variant_without_its_engine(edgekit: Run, tmp_path: Path) -> None:
    bundle = pack(tmp_path, (Part("onnx", "fp32", float_onnx(), "onnxruntime", engine_least_version="99"),))
    assert edgekit("test", bundle).exit_code == 0
    assert edgekit("test", bundle, "--require-device").exit_code == 1


def test_a_device_that_breaks(edgekit: Run, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = TestOutcome(passed=0, failed=1, skipped=0, broken="the link was cut", report={})
    monkeypatch.setattr(test_verb, "run_device_tests", lambda *args, **options: outcome)
    ended = edgekit("test", tiny_bundle)
    assert ended.exit_code == 3
    assert "the device is broken: the link was cut" in ended.stdout


@pytest.mark.parametrize(("device", "exit_code"), [("ssh://x", 3), ("nonsense", 2)])
def test_no_such_device(edgekit: Run, tiny_bundle: Path, device: str, exit_code: int) -> None:
    assert edgekit("test", tiny_bundle, "--device", device).exit_code == exit_code


def test_no_such_bundle(edgekit: Run, tmp_path: Path) -> None:
    assert edgekit("test", tmp_path / "none.edgekit").exit_code == 2

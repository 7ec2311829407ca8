from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import IMAGES, Part, expected, float_onnx, pack, parts

SUITES = ("--pyargs", "edgekit_device_tests")


@dataclass(frozen=True)
class Ended:
    exit_code: int
    stdout: str
    report: dict[str, object]

    def outcomes(self) -> dict[str, int]:
        names = [test["outcome"] for test in self.report["tests"]]  # type: ignore[index]
        return {name: names.count(name) for name in set(names)}


@pytest.fixture
def harness(tmp_path: Path) -> Callable[..., Ended]:
    """Run pytest in a process of its own, with settings of its own."""

    def run(*argv: object) -> Ended:
        settings, report = tmp_path / "pytest.ini", tmp_path / "device-report.json"
        settings.write_text("[pytest]\naddopts = -ra\n")
        command = [sys.executable, "-m", "pytest", "-c", settings, "-p", "no:cacheprovider", *argv]
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
        ended = subprocess.run(
            [str(word) for word in (*command, "--edgekit-report", report)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        written = json.loads(report.read_text()) if report.exists() else {}
        return Ended(ended.returncode, ended.stdout + ended.stderr, written)

    return run


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("small"), parts()[1:2])


def test_a_bundle_passes_and_its_figures_are_kept(
    harness: Callable[..., Ended], small_bundle: Path, tmp_path: Path
) -> None:
    ended = harness(*SUITES, "--edgekit-bundle", small_bundle, f"--junitxml={tmp_path / 'junit.xml'}")
    assert ended.exit_code == 0, ended.stdout
    assert ended.outcomes() == {"passed": 4}
    assert (ended.report["device"], ended.report["broken"]) == ("local:", None)
    figures = ended.report["figures"]["tflite-int8"]  # type: ignore[index]
    assert figures["accelerator"] == "cpu (XNNPACK)"
    assert figures["runs"] == 200
    properties = ElementTree.parse(tmp_path / "junit.xml").iter("property")
    assert {"tflite-int8.median_ms", "tflite-int8.max_error"} <= {item.get("name") for item in properties}


def test_without_a_bundle_it_says_how_to_give_one(harness: Callable[..., Ended]) -> None:
    ended = harness(*SUITES)
    assert ended.exit_code == 0
    assert "4 skipped" in ended.stdout
    assert "--edgekit-bundle NAME.edgekit --edgekit-device local:" in ended.stdout


def test_a_file_that_is_no_bundle(harness: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "bad.edgekit").write_text("bad")
    ended = harness(*SUITES, "--edgekit-bundle", tmp_path / "bad.edgekit")
    assert ended.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "bad.edgekit: not an edgekit bundle" in ended.stdout


def test_golden_outputs_out_of_tolerance_fail(harness: Callable[..., Ended], tmp_path: Path) -> None:
    wrong = pack(tmp_path, parts()[1:2], golden={"scores": np.roll(expected(IMAGES), 1, axis=1)})
    ended = harness(*SUITES, "--edgekit-bundle", wrong, "-k", "golden")
    assert ended.exit_code == 1
    assert ended.outcomes() == {"failed": 1}
    assert "tflite-int8: largest error" in ended.stdout


def test_no_device_skips_with_the_reason(harness: Callable[..., Ended], small_bundle: Path) -> None:
    ended = harness(*SUITES, "--edgekit-bundle", small_bundle, "--edgekit-device", "adb:R58M")
    assert ended.exit_code == 0
    assert ended.outcomes() == {"skipped": 4}
    assert "no device: adb:R58M: this version of edgekit does not speak adb yet" in ended.stdout
    assert "does not speak adb" in str(ended.report["broken"])


def test_no_device_fails_where_one_is_required(harness: Callable[..., Ended], small_bundle: Path) -> None:
    argv = (*SUITES, "--edgekit-bundle", small_bundle, "--edgekit-device", "adb:R58M", "--edgekit-require-device")
    ended = harness(*argv)
    assert ended.exit_code == 1
    assert ended.outcomes()["failed"] >= 1


def test_a_required_device_needs_a_bundle(harness: Callable[..., Ended]) -> None:
    ended = harness(*SUITES, "--edgekit-require-device")
    assert ended.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "would pass with every test skipped: no bundle: pytest --pyargs edgekit_device_tests" in ended.stdout
    skipped = harness(*SUITES)
    assert skipped.exit_code == 0
    assert "no bundle: pytest --pyargs edgekit_device_tests" in skipped.stdout
    assert harness(*SUITES, "--edgekit-bundle", "").exit_code == pytest.ExitCode.USAGE_ERROR  # a variable left empty


class TestMissingEngine:
    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        return pack(tmp_path, (Part("onnx", "fp32", float_onnx(), "onnxruntime", engine_least_version="99"),))

    def test_its_variant_skips(self, harness: Callable[..., Ended], bundle: Path) -> None:
        ended = harness(*SUITES, "--edgekit-bundle", bundle)
        assert ended.exit_code == 0
        assert ended.outcomes() == {"passed": 1, "skipped": 3}
        assert "onnx-fp32 cannot run on the device: onnxruntime" in ended.stdout

    def test_it_fails_where_the_device_is_required(self, harness: Callable[..., Ended], bundle: Path) -> None:
        ended = harness(*SUITES, "--edgekit-bundle", bundle, "--edgekit-require-device")
        assert ended.exit_code == 1
        assert ended.outcomes() == {"passed": 1, "failed": 3}
        assert ended.report["broken"] is None


def test_a_broken_device_is_latched_with_the_first_cause(
    harness: Callable[..., Ended], small_bundle: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "test_latch.py"
    suite.write_text(
        "from edgekit.errors import DeviceError\n"
        "def test_first(edgekit_deployed): raise DeviceError('the link was cut')\n"
        "def test_second(edgekit_deployed): raise DeviceError('never reached')\n"
        "def test_without_device(edgekit_bundle): pass\n"
    )
    ended = harness(suite, "--edgekit-bundle", small_bundle)
    assert ended.exit_code == 1
    assert ended.outcomes() == {"failed": 1, "skipped": 1, "passed": 1}
    assert ended.report["broken"] == "the link was cut"
    assert "the device is broken: the link was cut" in ended.stdout


def test_the_plugin_imports_nothing_heavy(harness: Callable[..., Ended], tmp_path: Path) -> None:
    suite = tmp_path / "test_imports.py"
    heavy = ("numpy", "tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "edgekit.bundle")
    suite.write_text(f"import sys\ndef test_it(): assert not set({heavy!r}) & set(sys.modules)\n")
    assert harness(suite).exit_code == 0

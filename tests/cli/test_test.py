from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli import main
from edgekit.cli import test as test_verb
from edgekit.device_results import markdown
from edgekit.devices.testing import TestOutcome
from tests.tiny_models import IMAGES, Part, expected, float_onnx, pack, parts

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]


def test_a_bundle_that_passes(edgekit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")  # the caller's, and not ours
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option-either")
    monkeypatch.chdir(tmp_path)
    bundle = pack(tmp_path, parts()[1:2])
    ended = edgekit("test", bundle.name, "--junit", "junit.xml", "--json")
    assert ended.exit_code == 0, ended.stderr
    assert {key: ended.json[key] for key in ("passed", "failed", "skipped", "broken")} == {
        "passed": 9, "failed": 0, "skipped": 6, "broken": None,
    }  # fmt: skip
    assert "9 passed" in ended.stderr
    assert "tflite-int8.median_ms" in (tmp_path / "junit.xml").read_text()


def test_a_bundle_that_fails(edgekit: Run, tmp_path: Path) -> None:
    bundle = pack(tmp_path, parts()[1:2], golden={"scores": np.roll(expected(IMAGES), 1, axis=1)})
    ended = edgekit("test", bundle)
    assert ended.exit_code == 1
    assert ended.stdout == "5 passed, 1 failed, 9 skipped (tiny-1.0.0.edgekit on local:)\n"


def test_a_variant_without_its_engine(edgekit: Run, tmp_path: Path) -> None:
    bundle = pack(tmp_path, (Part("onnx", "fp32", float_onnx(), "onnxruntime", engine_least_version="99"),))
    assert edgekit("test", bundle).exit_code == 0
    assert edgekit("test", bundle, "--require-device").exit_code == 1


def test_a_device_that_breaks(edgekit: Run, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = {"url": "local:", "broken": "the link was cut", "probe": None, "figures": {}, "gate": None}
    outcome = TestOutcome(
        passed=0,
        failed=1,
        skipped=0,
        broken="the link was cut",
        report={"bundle": {"name": "tiny", "version": "1.0.0"}, "commit": None, "devices": [device], "tests": []},
    )
    monkeypatch.setattr(test_verb, "run_device_tests", lambda *args, **options: outcome)
    ended = edgekit("test", tiny_bundle)
    assert ended.exit_code == 3
    assert "the device is broken: the link was cut" in ended.stdout


@pytest.mark.parametrize(("device", "exit_code"), [("ssh://x", 3), ("nonsense", 2)])
def test_no_such_device(edgekit: Run, tiny_bundle: Path, device: str, exit_code: int) -> None:
    assert edgekit("test", tiny_bundle, "--device", device).exit_code == exit_code


def test_the_help_names_the_exit_codes(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["test", "--help"])
    said = " ".join(capfd.readouterr().out.split())
    assert "1 a test failed, or slower; 2 a mistake; 3 trouble with a device, or the gate is inconclusive" in said


def test_no_such_bundle(edgekit: Run, tmp_path: Path) -> None:
    assert edgekit("test", tmp_path / "none.edgekit").exit_code == 2


def test_a_summary_says_why_tests_did_not_run() -> None:
    skipped = {"device": "local:", "when": "setup", "outcome": "skipped"}
    tests = [{"name": f"test_{number}", "reason": "no | key", **skipped} for number in range(2)]
    report = {"bundle": {"name": "tiny", "version": "1.0.0"}, "commit": None, "devices": [], "tests": tests}
    outcome = TestOutcome(passed=0, failed=0, skipped=2, broken=None, report=report)
    assert markdown(outcome).endswith("\n\n<details><summary>2 skipped</summary>\n\n- 2 × no \\| key\n\n</details>\n")


def test_several_devices_side_by_side_end_in_one_report(
    edgekit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTEST_PLUGINS", "tests.suite_plugin")
    monkeypatch.setenv("ONLY_SUITE", "test_variants.py")
    bundle, summary = pack(tmp_path, parts()[1:2]), tmp_path / "summary.md"
    devices = ("--device", "local:a", "--device", "local:b")
    ended = edgekit("test", bundle, *devices, "--jobs", 2, "--markdown", summary, "--history", tmp_path / "h", "--json")
    assert ended.exit_code == 0, ended.stderr
    assert (ended.json["format"], ended.json["format_version"]) == ("edgekit-device-report", 2)
    assert [device["url"] for device in ended.json["devices"]] == ["local:a", "local:b"]
    assert (ended.json["passed"], ended.json["failed"]) == (6, 0)
    lines = summary.read_text().splitlines()
    assert lines[0].startswith("## tiny 1.0.0: device tests passed")
    assert [line for line in lines if line.startswith("| `local:b` | passed | 3 | 0 | ")]
    runs = edgekit("history", "tiny", "--history", tmp_path / "h", "--json").json["runs"]
    assert sorted(run["device"] for run in runs) == ["local:a", "local:b"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--jobs", 0), "0 jobs"),
        (("--calibrate", "--gate-pairs", 9), "--gate-pairs, --calibrate: only with --baseline"),
        (("--max-drop", 0.1), "--max-drop: only with --evaluation"),
        (("--evaluation", "x.npz", "--samples", 0), "--samples is 0, expected 1 or more"),
        (("--soak", -1), "--soak is -1, expected more than 0"),
        (("--max-p90-ms", "nan"), "--max-p90-ms is nan, expected more than 0"),
        (("--lease-wait", -1), "--lease-wait is -1, expected 0 or more"),
        (("--device", "local:a", "--device", "local:a"), "--device local:a is given twice"),
        (("--history", __file__), "not a history that can be read"),
    ],
)
def test_flags_that_cannot_be(edgekit: Run, tiny_bundle: Path, flags: tuple[object, ...], said: str) -> None:
    ended = edgekit("test", tiny_bundle, *flags)
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert said in ended.stderr


def test_a_bundle_that_fails_while_another_device_is_broken(
    edgekit: Run, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(device: str, reason: str) -> dict[str, str]:
        return {"name": "test", "device": device, "when": "call", "outcome": "failed", "reason": reason}

    empty = {"probe": None, "figures": {}, "gate": None}
    devices = [{"url": "local:a", "broken": None, **empty}, {"url": "local:b", "broken": "the link was cut", **empty}]
    cut = failed("local:b", "edgekit.errors.LinkError: the link was cut")
    ends = []
    for tests in ([cut], [cut, failed("local:a", "off")], [cut, failed("local:b", "off")]):
        report = {"bundle": {"name": "tiny", "version": "1.0.0"}, "commit": None, "devices": devices, "tests": tests}
        outcome = TestOutcome(passed=0, failed=len(tests), skipped=0, broken="the link was cut", report=report)
        monkeypatch.setattr(test_verb, "run_device_tests", lambda *args, _outcome=outcome, **options: _outcome)
        title = markdown(outcome).splitlines()[0].partition(": device tests ")[2]
        ends.append((edgekit("test", tiny_bundle).exit_code, title))
    unfinished = (3, "**not finished: a device is broken**")
    assert ends == [unfinished, (1, "**failed**"), (1, "**failed**")], "exit code 1 is about the model"

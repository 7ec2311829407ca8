from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.devices.leases import take_lease
from tests.tiny_models import IMAGES, Part, expected, float_onnx, pack, parts

SUITES = ("--pyargs", "edgekit_device_tests")
NOWHERE = "ssh://127.0.0.1:1"  # nothing listens there
NO_DEVICE = "ssh://127.0.0.1:1: "


@dataclass(frozen=True)
class Ended:
    exit_code: int
    stdout: str
    report: dict[str, object]

    def devices(self) -> list[dict[str, Any]]:
        return self.report["devices"]  # type: ignore[return-value]

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
        environment["EDGEKIT_COMMIT"] = "c0ffee"
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
    assert ended.outcomes() == {"passed": 9, "skipped": 6}
    (device,) = ended.devices()
    assert (device["url"], device["broken"]) == ("local:", None)
    figures = device["figures"]["tflite-int8"]
    assert figures["accelerator"] == "cpu (XNNPACK)"
    assert (figures["runs"], figures["values_unlike_here"]) == (200, 0)
    assert figures["kernels"] == figures["kernels_here"]
    assert figures["peak_rss_bytes"] > 1_000_000
    properties = {
        item.get("name"): item.get("value") for item in ElementTree.parse(tmp_path / "junit.xml").iter("property")
    }
    assert {"tflite-int8.median_ms", "tflite-int8.max_error"} <= set(properties)
    told = {name: properties[name] for name in ("device", "devices", "bundle", "bundle_version", "commit")}
    assert told == {
        "device": "local:",
        "devices": "local:",
        "bundle": "tiny",
        "bundle_version": "1.0.0",
        "commit": "c0ffee",
    }
    assert ended.report["commit"] == "c0ffee"
    reasons = {test["name"].split("[")[0]: test["reason"] for test in ended.report["tests"]}  # type: ignore[index]
    assert reasons["test_no_signature_is_false"] == "the bundle is not signed: edgekit sign"
    assert reasons["test_accuracy"] == "no labelled data: --edgekit-evaluation DATA.npz"
    assert reasons["test_not_slower_than_the_baseline"] == "no baseline: --edgekit-baseline OLD.edgekit"
    assert reasons["test_soak"] == "takes minutes: --edgekit-soak 10"


def test_without_a_bundle_it_says_how_to_give_one(harness: Callable[..., Ended]) -> None:
    ended = harness(*SUITES)
    assert ended.exit_code == 0
    assert " passed" not in ended.stdout
    assert "--edgekit-bundle NAME.edgekit --edgekit-device local:" in ended.stdout


def test_a_file_that_is_no_bundle(harness: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "bad.edgekit").write_text("bad")
    ended = harness(*SUITES, "--edgekit-bundle", tmp_path / "bad.edgekit")
    assert ended.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "bad.edgekit: not an edgekit bundle" in ended.stdout


def test_golden_outputs_out_of_tolerance_fail(harness: Callable[..., Ended], tmp_path: Path) -> None:
    wrong = pack(tmp_path, parts()[1:2], golden={"scores": np.roll(expected(IMAGES), 1, axis=1)})
    ended = harness(*SUITES, "--edgekit-bundle", wrong, "-k", "golden_outputs")
    assert ended.exit_code == 1
    assert ended.outcomes() == {"failed": 1}
    assert "tflite-int8: largest error" in ended.stdout


def test_no_device_skips_with_the_reason(harness: Callable[..., Ended], small_bundle: Path) -> None:
    ended = harness(*SUITES, "--edgekit-bundle", small_bundle, "--edgekit-device", NOWHERE)
    assert ended.exit_code == 0
    assert set(ended.outcomes()) == {"skipped"}
    assert "no device: " + NO_DEVICE in ended.stdout
    assert NO_DEVICE in ended.devices()[0]["broken"]


def test_no_device_fails_where_one_is_required(harness: Callable[..., Ended], small_bundle: Path) -> None:
    argv = (*SUITES, "--edgekit-bundle", small_bundle, "--edgekit-device", NOWHERE, "--edgekit-require-device")
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
        ended = harness(*SUITES, "--edgekit-bundle", bundle, "-m", "not faults and not soak")
        assert ended.exit_code == 0
        assert ended.outcomes() == {"passed": 1, "skipped": 8}
        assert "onnx-fp32 cannot run on the device: onnxruntime" in ended.stdout

    def test_it_fails_where_the_device_is_required(self, harness: Callable[..., Ended], bundle: Path) -> None:
        ended = harness(
            *SUITES, "--edgekit-bundle", bundle, "--edgekit-require-device", "-m", "not faults and not soak"
        )
        assert ended.exit_code == 1
        assert ended.outcomes()["failed"] == 5
        assert ended.devices()[0]["broken"] is None


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
    assert ended.devices()[0]["broken"] == "the link was cut"
    assert "the device is broken: the link was cut" in ended.stdout


def test_the_plugin_imports_nothing_heavy(harness: Callable[..., Ended], tmp_path: Path) -> None:
    suite = tmp_path / "test_imports.py"
    heavy = ("numpy", "tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "edgekit.bundle")
    suite.write_text(f"import sys\ndef test_it(): assert not set({heavy!r}) & set(sys.modules)\n")
    assert harness(suite).exit_code == 0


def write(folder: Path, text: str) -> Path:
    path = folder / "test_own.py"
    path.write_text(text)
    return path


def test_the_same_tests_on_each_device(harness: Callable[..., Ended], small_bundle: Path, tmp_path: Path) -> None:
    suite = write(
        tmp_path,
        "from edgekit.errors import LinkError\n"
        "def test_one(edgekit_deployed, edgekit_record): edgekit_record('v', {'url': edgekit_deployed.device.url})\n"
        "def test_two(edgekit_device):\n"
        "    if edgekit_device.url == 'local:b': raise LinkError('the cable was pulled')\n"
        "def test_three(edgekit_device): edgekit_device.run(['true'], timeout_s=9)\n"
        "def test_four(edgekit_device): pass\n",
    )
    urls = ("local:a", "local:b", "local:c")
    ended = harness(suite, "--edgekit-bundle", small_bundle, *(f"--edgekit-device={url}" for url in urls))
    found = {(test["name"], test["outcome"]) for test in ended.report["tests"]}  # type: ignore[index]
    assert {("test_one[local:a]", "passed"), ("test_three[local:c]", "passed")} <= found
    gone = [test for test in ended.report["tests"] if test["device"] == "local:b"]  # type: ignore[index]
    assert [test["outcome"] for test in gone] == ["passed", "failed", "skipped", "skipped"]
    assert {test["reason"] for test in gone[2:]} == {"the device is broken: the cable was pulled"}
    assert [device["broken"] for device in ended.devices()] == [None, "the cable was pulled", None]
    assert [device["figures"]["v"]["url"] for device in ended.devices()] == list(urls)
    assert ended.outcomes() == {"passed": 9, "failed": 1, "skipped": 2}


def test_a_model_that_crashes_breaks_no_device(
    harness: Callable[..., Ended], small_bundle: Path, tmp_path: Path
) -> None:
    suite = write(
        tmp_path,
        "from edgekit.devices.replies import read_reply\n"
        "def test_crash(edgekit_device):\n"
        "    argv = [edgekit_device.python, '-c', 'import os; os.abort()']\n"
        "    read_reply(edgekit_device.run(argv, timeout_s=60), edgekit_device.url)\n"
        "def test_after(edgekit_device): pass\n",
    )
    ended = harness(suite, "--edgekit-bundle", small_bundle)
    assert ended.outcomes() == {"failed": 1, "passed": 1}
    assert ended.devices()[0]["broken"] is None


def test_what_a_program_prints_is_shown_while_it_runs(small_bundle: Path, tmp_path: Path) -> None:
    """It ends only when its first line was seen among what pytest says."""
    go = tmp_path / "go"
    suite = write(
        tmp_path,
        f"SCRIPT = 'echo begun; until [ -e {go} ]; do sleep 0.05; done; echo done'\n"
        "def test_it(edgekit_device):\n"
        "    edgekit_device.run(['sh', '-c', SCRIPT], timeout_s=60, heard=edgekit_device.listener)\n",
    )
    words = [suite, "--edgekit-bundle", small_bundle, "--edgekit-live", "-c", os.devnull, "-p", "no:cacheprovider"]
    with subprocess.Popen([sys.executable, "-m", "pytest", *words], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert "local: begun\n" in running.stdout
        go.touch()
        assert "local: done\n" in running.stdout
        running.stdout.read()
    assert running.returncode == 0


class TestMarkers:
    SUITE = (
        "import pytest\n"
        "@pytest.mark.needs(engine='litert', memory_mib=1)\n"
        "def test_has(edgekit_device): pass\n"
        "@pytest.mark.needs(engine='coreml')\n"
        "def test_engine(edgekit_device): pass\n"
        "@pytest.mark.needs(accelerator='gpu')\n"
        "def test_accelerator(edgekit_device): pass\n"
        "@pytest.mark.needs(memory_mib=10_000_000)\n"
        "def test_memory(edgekit_device): pass\n"
        "@pytest.mark.real_device\n"
        "def test_real(edgekit_device): pass\n"
        "@pytest.mark.latency\n"
        "def test_latency(edgekit_device): pass\n"
        "@pytest.mark.needs('whatever another plugin means')\n"
        "def test_no_device(): pass\n"
    )

    def test_they_act(self, harness: Callable[..., Ended], small_bundle: Path, tmp_path: Path) -> None:
        ended = harness(write(tmp_path, self.SUITE), "--edgekit-bundle", small_bundle, "--strict-markers")
        assert ended.exit_code == 0, ended.stdout
        reasons = {test["name"]: test["reason"] for test in ended.report["tests"]}  # type: ignore[index]
        assert reasons["test_has[local:]"] is reasons["test_latency[local:]"] is None
        assert reasons["test_engine[local:]"].startswith("the device lacks engine 'coreml' (it has: ")
        assert reasons["test_accelerator[local:]"] == "the device lacks accelerator 'gpu' (it has: cpu)"
        assert reasons["test_memory[local:]"].startswith("the device lacks 10000000 MiB of memory (it has ")
        assert reasons["test_real[local:]"] == "needs a real device: local: is this machine"

    def test_a_latency_test_skips_where_times_mean_nothing(
        self, harness: Callable[..., Ended], small_bundle: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "conftest.py").write_text(
            "import dataclasses, pytest\n"
            "@pytest.fixture(scope='session')\n"
            "def edgekit_traits(edgekit_traits): return dataclasses.replace(edgekit_traits, emulated='it is virtual')\n"
        )
        ended = harness(write(tmp_path, self.SUITE), "--edgekit-bundle", small_bundle)
        reasons = {test["name"]: test["reason"] for test in ended.report["tests"]}  # type: ignore[index]
        assert reasons["test_latency[local:]"] == "its times would say nothing: it is virtual"

    def test_a_need_that_there_is_not(self, harness: Callable[..., Ended], small_bundle: Path, tmp_path: Path) -> None:
        suite = write(tmp_path, "import pytest\n@pytest.mark.needs(engin='x')\ndef test_it(edgekit_device): pass\n")
        ended = harness(suite, "--edgekit-bundle", small_bundle)
        assert ended.exit_code == pytest.ExitCode.USAGE_ERROR
        assert "needs() has no 'engin'; did you mean 'engine'?" in ended.stdout


def test_a_device_that_another_session_has(harness: Callable[..., Ended], small_bundle: Path, tmp_path: Path) -> None:
    lease = take_lease(["local:busy"], wait_s=0)
    suite = write(tmp_path, "def test_it(edgekit_device): pass\ndef test_too(edgekit_device): pass\n")
    argv = (suite, "--edgekit-bundle", small_bundle, "--edgekit-device=local:busy", "--edgekit-lease-wait=0.2")
    ended = harness(*argv)
    assert (ended.exit_code, ended.outcomes()) == (0, {"skipped": 2})
    assert "no device: local:busy is held by" in ended.stdout
    assert harness(*argv, "--edgekit-require-device").exit_code == 1
    lease.release()
    assert harness(*argv).outcomes() == {"passed": 2}


class TestAccuracy:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        np.savez(tmp_path / "data.npz", image=IMAGES, y=expected(IMAGES).argmax(axis=1))
        return tmp_path / "data.npz"

    def run(self, harness: Callable[..., Ended], bundle: Path, *argv: object) -> Ended:
        return harness(*SUITES, "--edgekit-bundle", bundle, "-k", "test_accuracy", *argv)

    def test_it_is_measured_on_the_device(self, harness: Callable[..., Ended], small_bundle: Path, data: Path) -> None:
        ended = self.run(harness, small_bundle, "--edgekit-evaluation", data, "--edgekit-metric", "top1")
        assert ended.outcomes() == {"passed": 1}, ended.stdout
        figures = ended.devices()[0]["figures"]["tflite-int8"]
        assert (figures["metric"], figures["metric_samples"]) == ("top1", len(IMAGES))
        assert figures["metric_value"] > 0.8

    def test_less_than_the_build_measured_fails(
        self, harness: Callable[..., Ended], tmp_path: Path, data: Path
    ) -> None:
        np.savez(data, image=IMAGES, y=(expected(IMAGES).argmax(axis=1) + 1) % 3)
        bundle = pack(tmp_path, (replace(parts()[1], metrics={"top1": 1.0}),))
        ended = self.run(harness, bundle, "--edgekit-evaluation", data)
        assert ended.outcomes() == {"failed": 1}
        assert "1.0000 in the build, limit 0.9900" in ended.stdout

    def test_data_that_does_not_fit(self, harness: Callable[..., Ended], small_bundle: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "other.npz", picture=IMAGES, y=expected(IMAGES).argmax(axis=1))
        ended = self.run(harness, small_bundle, "--edgekit-evaluation", tmp_path / "other.npz")
        assert ended.exit_code == pytest.ExitCode.USAGE_ERROR
        assert "--edgekit-evaluation" in ended.stdout
        assert "passed" not in ended.stdout

    def test_a_metric_that_there_is_not(self, harness: Callable[..., Ended], small_bundle: Path, data: Path) -> None:
        ended = self.run(harness, small_bundle, "--edgekit-evaluation", data, "--edgekit-metric", "top9")
        assert ended.exit_code == pytest.ExitCode.USAGE_ERROR
        assert "unknown metric 'top9'; did you mean 'top1'?" in ended.stdout


def test_budgets_that_are_not_met_fail(harness: Callable[..., Ended], small_bundle: Path) -> None:
    argv = (*SUITES, "--edgekit-bundle", small_bundle, "-k", "latency_and_memory or fell_back")
    ended = harness(*argv, "--edgekit-max-p90-ms=1e-6", "--edgekit-accelerator=gpu")
    assert ended.outcomes() == {"failed": 2}
    assert "ms, limit 1e-06 ms" in ended.stdout
    assert "cpu (XNNPACK)" in ended.stdout
    assert len(ended.devices()[0]["figures"]["tflite-int8"]["p90_ms_of_processes"]) == 3
    assert harness(*argv, "--edgekit-max-memory-mib=1").outcomes() == {"passed": 1, "failed": 1}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--edgekit-device=local:a", "--edgekit-device=local:a"), "local:a is given twice"),
        (("--edgekit-vendor-wheels=/none",), "--edgekit-vendor-wheels: /none is no folder of wheels"),
        (("--edgekit-benchmark-model=/none",), "--edgekit-benchmark-model: no file /none; give one built for"),
        (("--edgekit-evaluation=none.npz",), "--edgekit-evaluation: no file none.npz; give an .npz, or"),
        (("--edgekit-samples=0",), "--edgekit-samples is 0, expected 1 or more"),
        (("--edgekit-baseline=/none.edgekit",), "/none.edgekit: no such"),
        (("--edgekit-baseline=/none.edgekit", "--edgekit-gate-pairs=3"), "gate: 3 pairs and 40 at most, expected 5 or"),
    ],
)
def test_options_that_cannot_be(
    harness: Callable[..., Ended], small_bundle: Path, argv: tuple[str, ...], words: str
) -> None:
    ended = harness(*SUITES, "--edgekit-bundle", small_bundle, *argv)
    assert ended.exit_code == pytest.ExitCode.USAGE_ERROR
    assert words in ended.stdout

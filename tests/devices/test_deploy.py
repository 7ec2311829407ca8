from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgekit.devices import CommandResult, DeployedBundle, deploy
from edgekit.devices.local import LocalTransport
from edgekit.devices.replies import read_reply
from edgekit.devices.transport import Heard
from edgekit.errors import BundleError, DataError, DeviceError
from edgekit.tensorrt.cache import BUILD_TIMEOUT_S
from edgekit.tensorrt.recipe import Recipe
from tests.tiny_models import IMAGES, Part, expected, float_onnx, pack


@pytest.fixture
def deployed(tiny_bundle: Path, local_device: LocalTransport) -> DeployedBundle:
    return deploy(tiny_bundle, local_device)


def test_the_runtime_and_the_bundle_are_all_that_is_there(
    deployed: DeployedBundle, local_device: LocalTransport
) -> None:
    files = {str(path.relative_to(local_device.root)) for path in local_device.root.rglob("*") if path.is_file()}
    assert files == {deployed.runtime, deployed.remote}
    assert deployed.manifest.name == "tiny"


def test_a_bundle_that_is_none_never_leaves(tmp_path: Path, local_device: LocalTransport) -> None:
    with pytest.raises(BundleError, match=r"no such file"):
        deploy(tmp_path / "none.edgekit", local_device)
    assert list(local_device.root.iterdir()) == []


def test_probe(deployed: DeployedBundle) -> None:
    probe = deployed.probe()
    assert probe.cpus >= 1
    assert [engine.name for engine in probe.engines] == ["tensorrt", "tensorrt-rtx", "litert", "onnxruntime"]


def test_run_leaves_no_file_there(deployed: DeployedBundle, local_device: LocalTransport) -> None:
    result = deployed.run({"image": IMAGES}, variant="tflite-fp32", threads=2)
    np.testing.assert_allclose(result.outputs["scores"], expected(IMAGES), atol=1e-6)
    assert (result.choice.variant, result.choice.threads) == ("tflite-fp32", 2)
    assert not list(local_device.root.rglob("*.npz*"))


def test_bench(deployed: DeployedBundle) -> None:
    (best,) = deployed.bench(warmup=1, runs=3).results
    assert best.choice.variant == "tflite-int8"
    assert (best.timing.warmup, best.timing.runs) == (1, 3)
    every = deployed.bench(every=True, warmup=0, runs=1, threads=2)
    assert [result.choice.threads for result in every.results] == [2, 2, 2]


def test_golden(deployed: DeployedBundle) -> None:
    assert [result.passed for result in deployed.golden(every=True).results] == [True, True, True]
    (one,) = deployed.golden("onnx-fp32").results
    assert one.variant == "onnx-fp32"


def test_verify(deployed: DeployedBundle) -> None:
    assert deployed.verify().members == deployed.manifest.members


def test_a_bundle_changed_on_the_device(deployed: DeployedBundle, local_device: LocalTransport) -> None:
    path = local_device.root / deployed.remote
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BundleError, match=r"tiny-1.0.0.edgekit: not an edgekit bundle, or cut short"):
        deployed.verify()


def test_the_users_mistakes_come_back_as_their_own_type(deployed: DeployedBundle, local_device: LocalTransport) -> None:
    with pytest.raises(DataError, match=r"tiny-1.0.0.edgekit: unknown input 'imag'; did you mean 'image'\?"):
        deployed.run({"imag": IMAGES})
    assert not list(local_device.root.rglob("*.npz*"))
    with pytest.raises(BundleError, match=r"no variant 'int8'"):
        deployed.bench("int8")


def test_a_runtime_that_breaks(deployed: DeployedBundle, local_device: LocalTransport) -> None:
    (local_device.root / deployed.runtime).write_text("import sys; print('noise'); sys.exit('no numpy here')")
    with pytest.raises(DeviceError, match=r"runtime.pyz probe: exit code 1; stderr: no numpy here"):
        deployed.probe()


def test_a_device_that_takes_too_long(tiny_bundle: Path, local_device: LocalTransport) -> None:
    deployed = deploy(tiny_bundle, local_device, timeout_s=0.01)
    with pytest.raises(DeviceError, match=r"was not done after 0.01 s"):
        deployed.probe()


def test_a_device_gets_time_to_build_its_engines(
    tmp_path: Path, local_device: LocalTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part("onnx", "fp32", float_onnx(), "onnxruntime", recipe=Recipe())
    deployed = deploy(pack(tmp_path, (part,)), local_device, timeout_s=60)
    allowed: dict[str, float] = {}

    def run(argv: Sequence[str], *, timeout_s: float, heard: Heard) -> CommandResult:
        if argv[1] == deployed.runtime:
            allowed[argv[2]] = timeout_s
        return CommandResult(tuple(argv), 1, "", "", 0.0)

    monkeypatch.setattr(local_device, "run", run)
    for ask in (deployed.probe, deployed.bench, deployed.golden):
        with pytest.raises(DeviceError):
            ask()
    assert allowed == {"probe": 60, "bench": 60 + BUILD_TIMEOUT_S, "golden": 60 + BUILD_TIMEOUT_S}


def test_what_the_runtime_says_while_it_runs(tiny_bundle: Path, local_device: LocalTransport) -> None:
    said: list[str] = []
    local_device.listener = said.append
    deploy(tiny_bundle, local_device).golden("tflite-int8")
    assert "comparing tflite-int8 with the golden outputs" in said
    assert not [line for line in said if '"event"' in line], "its answer is no news"


class TestReplies:
    def result(self, *lines: object, exit_code: int = 0) -> CommandResult:
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        return CommandResult(("python3",), exit_code, text, "last words", 1.0)

    def test_the_last_event_counts_and_noise_does_not(self) -> None:
        events = ("INFO: noise", {"event": "progress", "message": "m"}, "[1]", {"event": "result", "a": 1}, "{}")
        assert read_reply(self.result(*events), "local:") == {"a": 1}

    @pytest.mark.parametrize("kind", ["NoSuchError", "did_you_mean", "annotations"])
    def test_an_error_of_no_known_type(self, kind: str) -> None:
        error = {"event": "error", "type": kind, "message": "m"}
        with pytest.raises(DeviceError, match=r"^m$"):
            read_reply(self.result(error, exit_code=2), "local:")

    def test_no_answer(self) -> None:
        with pytest.raises(DeviceError, match=r"exit code -9; stderr: last words"):
            read_reply(self.result({"event": "progress", "message": "m"}, exit_code=-9), "local:")

    def test_an_answer_and_then_a_crash(self) -> None:
        with pytest.raises(DeviceError, match=r"exit code -11"):
            read_reply(self.result({"event": "result"}, exit_code=-11), "local:")

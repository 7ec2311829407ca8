"""A bundle on a phone without Python: the native runner there, everything else here, over the real adbd."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import main
from edgekit.devices import DeployedBundle, deploy
from edgekit.devices.adb import AdbTransport
from edgekit.devices.installing import install, read_lines, roll_back
from edgekit.devices.native import NativeBundle
from edgekit.errors import BundleError, ConfigError, DataError, DeviceError, EngineError
from edgekit.runtime import open_bundle
from tests import tiny_models
from tests.devices.phone import Phone
from tests.tiny_models import IMAGES, expected, pack

pytestmark = pytest.mark.usefixtures("native_cache")


@pytest.fixture
def device(running_phone: Phone) -> AdbTransport:
    return AdbTransport(running_phone.url())


@pytest.fixture
def deployed(tiny_bundle: Path, device: AdbTransport) -> DeployedBundle:
    return deploy(tiny_bundle, device)


def test_the_phone_has_no_python(device: AdbTransport) -> None:
    with pytest.raises(DeviceError, match="cannot start python3"):
        device.run(["python3", "-V"], timeout_s=20)


def test_probe(deployed: DeployedBundle) -> None:
    probe = deployed.probe()
    assert (probe.system, probe.python) == ("Linux", "none")
    assert {engine.name: engine.version is not None for engine in probe.engines} == {
        "tensorrt": False,
        "tensorrt-rtx": False,
        "litert": True,
        "onnxruntime": False,
    }


@pytest.mark.parametrize("variant", ["tflite-int8", "tflite-fp32"])
def test_it_says_what_litert_says_here(deployed: DeployedBundle, tiny_bundle: Path, variant: str) -> None:
    there = deployed.run({"image": IMAGES}, variant=variant)
    with open_bundle(tiny_bundle, variant=variant) as session:
        here = session.run({"image": IMAGES})
    np.testing.assert_array_equal(there.outputs["scores"], here["scores"])
    assert (there.choice.variant, there.choice.engine) == (variant, "litert")


def test_inputs_and_outputs_do_not_stay_there(deployed: DeployedBundle, running_phone: Phone) -> None:
    deployed.run({"image": IMAGES[:1]})
    deployed.bench(warmup=0, runs=1)
    assert not [path for path in running_phone.home.rglob("*") if path.name.startswith(("inputs-", "outputs-"))]


def test_golden(deployed: DeployedBundle) -> None:
    reply = deployed.golden(every=True)
    assert {result.variant: result.passed for result in reply.results} == {"tflite-int8": True, "tflite-fp32": True}
    assert [(item.variant, "runs TFLite alone" in item.reason) for item in reply.rejected] == [("onnx-fp32", True)]


def test_golden_outputs_that_are_off(device: AdbTransport, tmp_path: Path) -> None:
    wrong = pack(tmp_path, tiny_models.parts()[:1], golden={"scores": expected(IMAGES) + 0.1})
    assert [result.passed for result in deploy(wrong, device).golden(every=True).results] == [False]


def test_bench_keeps_every_sample(deployed: DeployedBundle) -> None:
    (best,) = deployed.bench(warmup=2, runs=30).results
    assert best.choice.variant == "tflite-int8"
    assert (best.timing.warmup, best.timing.runs, len(best.timing.samples_ms)) == (2, 30, 30)
    assert min(best.timing.samples_ms) > 0
    every = deployed.bench(every=True, warmup=0, runs=1, threads=2)
    assert {result.choice.variant for result in every.results} == {"tflite-int8", "tflite-fp32"}
    with pytest.raises(ConfigError, match="runs is 0"):
        deployed.bench(runs=0)


def test_what_the_runner_says_while_it_runs(deployed: NativeBundle, running_phone: Phone) -> None:
    class SeenError(Exception):
        """Enough was heard."""

    def listen(line: str) -> None:
        if line == "measuring 1 model: 0 warm-up and 1000000 timed runs each":  # LiteRT has its words, too
            assert running_phone.runs("edgekit-runner"), "it has ended: this comes too late"
            raise SeenError

    deployed.bench("tflite-int8", warmup=0, runs=1)
    deployed.device.listener = listen
    with pytest.raises(SeenError):
        deployed.bench("tflite-int8", warmup=0, runs=1_000_000)


def test_litert_does_not_speak_of_processors_that_nobody_asked_for(deployed: NativeBundle) -> None:
    heard: list[str] = []
    deployed.device.listener = heard.append
    deployed.run({"image": IMAGES[:1]})
    assert [line for line in heard if "Created TensorFlow Lite XNNPACK" not in line] == []


def test_verify(deployed: NativeBundle, running_phone: Phone) -> None:
    assert [member.path for member in deployed.verify().members] == ["tflite-fp32.tflite", "tflite-int8.tflite"]
    changed = running_phone.home / deployed.remotes["tflite-int8"]
    content = changed.read_bytes()
    changed.write_bytes(content[:-1])
    try:
        with pytest.raises(BundleError, match=r"tflite-int8.tflite has sha256 \w+ there"):
            deployed.verify()
    finally:
        changed.write_bytes(content)


def test_the_users_mistakes(deployed: DeployedBundle) -> None:
    with pytest.raises(DataError, match=r"unknown input 'imag'; did you mean 'image'\?"):
        deployed.run({"imag": IMAGES})
    with pytest.raises(EngineError, match=r"variant 'onnx-fp32' does not run here: .*runs TFLite alone"):
        deployed.run({"image": IMAGES}, variant="onnx-fp32")


def test_a_file_that_litert_refuses(device: AdbTransport, tmp_path: Path) -> None:
    part = tiny_models.Part("tflite", "fp32", b"\0" * 64, "litert")
    with pytest.raises(EngineError, match=r"LiteRT cannot read the model"):
        deploy(pack(tmp_path, (part,)), device).golden()


def test_versions_side_by_side_and_back(device: AdbTransport, running_phone: Phone, tmp_path: Path) -> None:
    parts = tiny_models.parts()
    bundles = [pack(tmp_path / str(count), parts[:count]) for count in (1, 2, 3)]
    first, second = (install(deploy(path, device), keep=0) for path in bundles[:2])
    assert (first.previous, second.previous) == (None, first.current)
    assert second.versions == (first.current, second.current)
    root = running_phone.home / second.folder
    assert {path.name for path in (root / str(second.current)).iterdir()} == {
        "tflite-fp32.tflite",
        "tflite-int8.tflite",
    }
    assert (root / "current").readlink() == Path(str(second.current))
    back = roll_back(device, "tiny")
    assert (back.current, back.previous) == (first.current, second.current)
    third = install(deploy(bundles[2], device), keep=0)
    assert third.versions == (first.current, third.current)
    assert install(deploy(bundles[2], device), keep=0) == third


def test_nothing_to_go_back_to(device: AdbTransport) -> None:
    with pytest.raises(DeviceError, match="there is no version before of 'another'"):
        roll_back(device, "another")


def test_what_the_installer_says() -> None:
    said = read_lines("current b\nprevious a\nversion a\nversion b\n")
    assert said == {"current": "b", "previous": "a", "problem": None, "versions": ["a", "b"]}


def test_the_verbs(tiny_bundle: Path, running_phone: Phone, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    url, bundle = running_phone.url(), str(tiny_bundle)
    np.savez(tmp_path / "x.npz", image=IMAGES)
    argv = ["run", bundle, "--input", str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz"), "--device", url]
    assert main(argv) == 0
    assert np.load(tmp_path / "y.npz")["scores"].shape == (len(IMAGES), 3)
    capfd.readouterr()
    assert main(["bench", bundle, "--device", url, "--runs", "20", "--json"]) == 0
    figures = json.loads(capfd.readouterr().out)
    assert (figures["device"], figures["runs"], len(figures["samples_ms"])) == (url, 20, 20)
    assert main(["test", bundle, "--device", url, "--json"]) == 0
    counts = json.loads(capfd.readouterr().out)
    assert (counts["passed"], counts["failed"], counts["broken"]) == (10, 0, None)
    assert main(["deploy", bundle, "--device", url]) == 0
    assert "models/tiny/current is 1.0.0-" in capfd.readouterr().out

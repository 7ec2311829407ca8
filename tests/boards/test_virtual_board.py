"""The virtual board as a device: what a bundle does there, and what happens to it when the board is hurt."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgekit import boards
from edgekit.boards import Board
from edgekit.bundle import Bundle
from edgekit.cli import main
from edgekit.devices import DeployedBundle, deploy, opened_device
from edgekit.devices.facts import probe_facts
from edgekit.devices.installing import install
from edgekit.devices.ssh import SshTransport
from edgekit.devices.testing import run_device_tests
from edgekit.devices.transport import checked
from edgekit.errors import DeviceFullError, EngineError, HostKeyError
from edgekit.files import sha256_file
from edgekit.runtime.golden import read_golden
from edgekit.runtime.survey import GoldenReply
from tests.boards.keeping import FRESH
from tests.boards.whole import cut_power_while_installing, look
from tests.demos import demo_bundle

MIB = 1 << 20
BARE = "printf '#!/bin/sh\\nexec python3 -S \"$@\"\\n' > /opt/bare && chmod 755 /opt/bare"  # without its packages


def test_what_it_is(device: SshTransport) -> None:
    facts = probe_facts(device)
    assert facts.emulated == "it is a virtual board under QEMU"
    assert (facts.model, facts.soc) == ("NVIDIA Jetson Orin Nano Developer Kit", "tegra234")
    assert (facts.l4t, facts.jetpack, facts.tensorrt) == ("36.4.3", "6.2", None)
    assert (facts.machine, facts.cpus, facts.accelerators) == ("aarch64", 2, ())
    assert "asimddp" in facts.cpu_features
    assert facts.state.temperatures_celsius == {}, "it has no sensor, and nobody invents one"
    assert abs(clock(device) - time.time()) < 60, "it was frozen, and knows the time"


def clock(device: SshTransport) -> float:
    return float(device.run(["date", "+%s"], timeout_s=60).stdout)


def test_int8_outputs_of_the_demo_are_those_of_this_machine_bit_for_bit(
    board: Board, tmp_path_factory: pytest.TempPathFactory
) -> None:
    demo = demo_bundle(tmp_path_factory)
    with Bundle.open(demo) as bundle:
        images = dict(read_golden(bundle).inputs)
    with opened_device(board.url) as there, opened_device("local:") as here:
        runs = [deploy(demo, device).run(images, variant="tflite-int8") for device in (there, here)]
    assert {run.choice.accelerator for run in runs} == {"cpu (XNNPACK)"}
    for name, output in runs[0].outputs.items():
        np.testing.assert_array_equal(output, runs[1].outputs[name])


def test_device_tests_pass_there_and_latency_skips(
    board: Board, versions: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = run_device_tests(versions[0], board.url, select="not faults")  # those: test_demo_on_board.py
    assert (outcome.passed, outcome.failed, outcome.skipped) == (5, 0, 5)
    [device] = outcome.report["devices"]
    assert device["traits"]["emulated"] == "it is a virtual board under QEMU"
    [latency] = [test for test in outcome.report["tests"] if "test_latency" in test["name"]]
    assert latency["reason"] == "its times would say nothing: it is a virtual board under QEMU"
    assert main(["bench", str(versions[0]), "--device", board.url]) == 2
    assert "it is a virtual board under QEMU, so no latency" in capfd.readouterr().err


@pytest.mark.slow  # and quick on this machine: tests/devices/test_vendoring.py
def test_an_engine_that_is_missing(board: Board, device: SshTransport, versions: list[Path]) -> None:
    checked(device, ["sh", "-c", BARE], timeout_s=60)
    with opened_device(f"{board.url}&python=/opt/bare") as bare, pytest.raises(EngineError) as caught:
        deploy(versions[0], bare).golden()
    said = str(caught.value)
    assert "No module named 'numpy'" in said
    assert "JetPack 6.2 lacks numpy, ai-edge-litert: there, python3 -m venv" in said
    assert "--vendor-wheels DIR, filled by pip download --only-binary=:all:" in said


@pytest.mark.slow
def test_wheels_brought_along(
    board: Board, device: SshTransport, versions: list[Path], kept_board: Path, tmp_path: Path
) -> None:
    checked(device, ["sh", "-c", BARE], timeout_s=60)
    for wheel in (kept_board / "wheels").glob("*.whl"):
        if not wheel.name.startswith("onnxruntime"):
            (tmp_path / wheel.name).symlink_to(wheel)
    with opened_device(f"{board.url}&python=/opt/bare") as bare:
        deployed = deploy(versions[0], bare, vendor_wheels=tmp_path)
        assert deployed.golden().results[0].passed
        assert deploy(versions[0], bare, vendor_wheels=tmp_path).wheels == deployed.wheels


def test_the_power_goes_while_a_version_is_installed(
    board: Board, versions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeployedBundle, "golden", lambda *_, **__: GoldenReply((), ()))  # others hold it to them
    chance = random.Random(time.time_ns())
    with opened_device(board.url) as device:
        first = install(deploy(versions[0], device)).current
    cut_power_while_installing(board, versions[1], after_s=chance.uniform(0.5, 8))
    boards.start(board)
    with opened_device(board.url) as device:
        assert look(device, versions) in (first, f"1.0.0-{sha256_file(versions[1])[:12]}")


@pytest.mark.slow  # and quick over a loopback sshd: tests/devices/test_ssh.py
def test_the_network_goes_in_the_middle_of_a_push_and_of_a_run(
    board: Board, device: SshTransport, tmp_path: Path
) -> None:
    boards.restore(board, FRESH)
    (tmp_path / "large").write_bytes(random.Random(0).randbytes(MIB) * 48)
    with opened_device(board.url) as again:
        unplug(board, 0.7, 8)
        again.push(tmp_path / "large", "large")
        there = again.run(["sha256sum", "large"], timeout_s=120).stdout.split()[0]
        assert there == sha256_file(tmp_path / "large")
        plug = unplug(board, 2, 8)
        code = "import time\nfor number in range(12): print(number, flush=True); time.sleep(1)"
        result = again.run([again.python, "-c", code], timeout_s=120)
        plug.join()
    assert result.stdout.split() == [str(number) for number in range(12)]


def unplug(board: Board, after_s: float, seconds: float) -> threading.Thread:
    def work() -> None:
        time.sleep(after_s)
        boards.set_link(board, up=False)
        time.sleep(seconds)
        boards.set_link(board, up=True)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_its_disk_is_full(device: SshTransport, tmp_path: Path) -> None:
    """Of a few kilobytes: what keeps a slow board busy with bytes that find no room keeps it from saying so in time."""
    (tmp_path / "large").write_bytes(bytes(256 << 10))
    checked(device, ["sh", "-c", "mkdir -p small && busybox mount -t tmpfs -o size=64k tmpfs small"], timeout_s=60)
    with pytest.raises(DeviceFullError, match="No space left on device"):
        device.push(tmp_path / "large", "small/large")
    checked(device, ["busybox", "mount", "-o", "remount,size=1m", "small"], timeout_s=60)  # whoever still has it open
    device.push(tmp_path / "large", "small/large")
    checked(device, ["busybox", "umount", "-l", "small"], timeout_s=60)


def test_another_host_key(board: Board) -> None:
    known = board.folder / "known_hosts"
    kept = known.read_text()
    key = (board.folder / "id_ed25519.pub").read_text()  # a good key, of somebody else
    known.write_text(f"{board.name} {key}")
    try:
        with pytest.raises(HostKeyError, match="ssh-keygen -R"):
            SshTransport(board.url)
    finally:
        known.write_text(kept)

"""The virtual board with AOSP's adbd, reached over adb: with its Python, and as a phone without any."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit import boards
from edgekit.boards import Board
from edgekit.bundle import Bundle
from edgekit.cli import main
from edgekit.devices import Transport, deploy, opened_device
from edgekit.devices.facts import probe_facts
from edgekit.devices.installing import install
from edgekit.devices.testing import run_device_tests
from edgekit.files import sha256_file
from edgekit.native import make_kit
from edgekit.native.building import ABIS
from edgekit.runtime.golden import read_golden
from tests.boards.keeping import FRESH, borrow, kept, why_not
from tests.boards.whole import cut_power_while_installing, look
from tests.demos import demo_bundle
from tests.devices.phone import adb_server

pytestmark = pytest.mark.slow  # the board and its adbd are made of sources first

VIRTUAL = "it is a virtual board under QEMU"
SKIPPED = f"its times would say nothing: {VIRTUAL}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kept board, and the wheels that it was made of."""
    reason = why_not("adb")
    if reason is not None:
        pytest.skip(reason)
    with adb_server(tmp_path_factory.mktemp("adb")), kept("adb") as folder:
        yield folder


@pytest.fixture(scope="module")
def board(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    board = borrow(folder, tmp_path_factory.mktemp("boards"))
    yield board
    boards.power_cut(board)


@pytest.fixture(scope="module")
def demo(board: Board, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_bundle(tmp_path_factory)


@pytest.fixture
def device(board: Board) -> Iterator[Transport]:
    with opened_device(board.url) as device:
        yield device


def outputs(bundle: Path, url: str) -> dict[str, np.ndarray]:
    """Of the int8 variant for the golden inputs, by XNNPACK's kernels."""
    with Bundle.open(bundle) as opened:
        images = dict(read_golden(opened).inputs)
    with opened_device(url) as device:
        run = deploy(bundle, device).run(images, variant="tflite-int8")
    assert run.choice.accelerator.startswith("cpu (XNNPACK"), run.choice.accelerator
    return dict(run.outputs)


def assert_as_here(bundle: Path, url: str) -> None:
    here = outputs(bundle, "local:")
    there = outputs(bundle, url)
    assert there.keys() == here.keys()
    for name, output in there.items():
        np.testing.assert_array_equal(output, here[name])


def test_what_it_is(board: Board, device: Transport) -> None:
    assert board.url == f"adb:{board.adb_serial}?python=python3"
    facts = probe_facts(device)
    assert facts.emulated == VIRTUAL
    assert (facts.model, facts.soc, facts.machine) == ("NVIDIA Jetson Orin Nano Developer Kit", "tegra234", "aarch64")
    assert facts.python is not None
    assert "ai-edge-litert" in facts.python.packages
    with opened_device(board.ssh_url) as over_ssh:
        assert probe_facts(over_ssh).model == facts.model
        for argv in (["ls", "/nowhere"], ["sh", "-c", "exit 3"]):  # by the same programs
            assert device.run(argv, timeout_s=60).exit_code == over_ssh.run(argv, timeout_s=60).exit_code


def test_it_is_told_once(board: Board, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EDGEKIT_BOARDS", str(board.folder.parent))
    assert main(["devices", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["devices"]
    assert [device["url"] for device in found] == ["local:", board.url]
    assert found[1]["facts"]["emulated"] == VIRTUAL


def test_int8_outputs_of_the_demo_are_those_of_this_machine_bit_for_bit(board: Board, demo: Path) -> None:
    assert_as_here(demo, board.url)


def test_device_tests_pass_there_and_latency_skips(
    board: Board, versions: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = run_device_tests(versions[0], board.url)
    assert outcome.failed == 0
    [latency] = [test for test in outcome.report["tests"] if "test_latency" in test["name"]]
    assert latency["reason"] == SKIPPED
    assert {test["outcome"] for test in outcome.report["tests"] if "test_golden" in test["name"]} == {"passed"}
    assert main(["bench", str(versions[0]), "--device", board.url]) == 2
    assert f"{VIRTUAL}, so no latency" in capfd.readouterr().err


def test_the_native_runner_for_phones_runs_there(
    folder: Path, board: Board, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ziglang", reason='no ziglang here: pip install "edgekit[native]"')
    abi = ABIS["arm64-v8a"]
    if not any(Path(place, abi.loader).exists() for place in abi.libc):
        pytest.skip(abi.get_libc)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    [wheel] = (folder / "wheels").glob("ai_edge_litert-*.whl")
    make_kit("arm64-v8a", wheel=wheel)
    without_python = f"adb:{board.adb_serial}"
    with opened_device(without_python) as device:
        assert device.python is None
    assert_as_here(demo, without_python)
    latency = run_device_tests(demo, without_python, select="latency").report["tests"]
    assert {test["reason"] for test in latency if "tflite" in test["name"]} == {SKIPPED}


def test_the_power_goes_while_a_version_is_installed(board: Board, versions: list[Path]) -> None:
    with opened_device(board.url) as device:
        first = install(deploy(versions[0], device)).current
    cut_power_while_installing(board, versions[1], after_s=random.Random(time.time_ns()).uniform(0.5, 8))
    boards.start(board)
    with opened_device(board.url) as device:
        assert look(device, versions) in (first, f"1.0.0-{sha256_file(versions[1])[:12]}")


def test_it_comes_back_from_a_power_cut_and_from_a_snapshot_at_the_same_url(board: Board, device: Transport) -> None:
    url = board.url
    device.run(["touch", "/root/later"], timeout_s=60)
    boards.restore(board, FRESH)
    assert device.run(["test", "-e", "/root/later"], timeout_s=60).exit_code == 1, "it is as it was"
    assert abs(float(device.run(["date", "+%s"], timeout_s=60).stdout) - time.time()) < 60
    boards.power_cut(board)
    boards.start(board)
    assert board.url == url
    assert device.run(["uname", "-m"], timeout_s=60).stdout == "aarch64\n"

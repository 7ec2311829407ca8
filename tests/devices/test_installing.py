"""Versions side by side on a device, one of them current, whatever happens."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import main
from edgekit.devices import deploy, installer
from edgekit.devices.installing import install, roll_back
from edgekit.devices.local import LocalTransport
from edgekit.errors import BundleError, DeviceError
from tests import tiny_models
from tests.devices.sshd import Board
from tests.tiny_models import IMAGES, pack

KILLS = 30


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Bundles of other contents under one model's name."""
    parts = tiny_models.parts()
    return [pack(tmp_path_factory.mktemp("versions"), parts[:count]) for count in (1, 2, 3)]


def test_versions_side_by_side_and_back(local_device: LocalTransport, versions: list[Path]) -> None:
    first, second = (install(deploy(path, local_device)) for path in versions[:2])
    assert (first.previous, second.previous) == (None, first.current)
    assert second.versions == (first.current, second.current)
    root = local_device.root / second.folder
    assert {path.name for path in (root / "current").iterdir()} == {"tiny-1.0.0.edgekit", "runtime.pyz"}
    assert (root / "current/tiny-1.0.0.edgekit").read_bytes() == versions[1].read_bytes()
    back = roll_back(local_device, "tiny")
    assert (back.current, back.previous) == (first.current, second.current)
    assert (root / "current/tiny-1.0.0.edgekit").read_bytes() == versions[0].read_bytes()


def test_the_same_again_changes_nothing(local_device: LocalTransport, versions: list[Path]) -> None:
    before = [install(deploy(path, local_device)) for path in (*versions[:2], versions[1])]
    assert before[1] == before[2]


def test_old_versions_go(local_device: LocalTransport, versions: list[Path]) -> None:
    done = [install(deploy(path, local_device), keep=0) for path in versions]
    assert done[2].versions == (done[1].current, done[2].current)


def test_nothing_to_go_back_to(local_device: LocalTransport, versions: list[Path]) -> None:
    with pytest.raises(DeviceError, match="there is no version before of 'tiny'"):
        roll_back(local_device, "tiny")
    install(deploy(versions[0], local_device))
    with pytest.raises(DeviceError, match="there is no version before of 'tiny'"):
        roll_back(local_device, "tiny")


def test_a_bundle_that_is_off_there_is_not_installed(
    local_device: LocalTransport, versions: list[Path], tmp_path: Path
) -> None:
    good = install(deploy(versions[0], local_device))
    wrong = pack(tmp_path, tiny_models.parts()[:1], golden={"scores": np.zeros((len(IMAGES), 3), np.float32)})
    with pytest.raises(BundleError, match=r"tflite-fp32 of tiny 1\.0\.0 is off its golden outputs"):
        install(deploy(wrong, local_device))
    with pytest.raises(DeviceError, match="no version before"):
        roll_back(local_device, "tiny")
    assert (local_device.root / good.folder / "current").readlink() == Path(str(good.current))


PYTHON = (sys.executable, installer.__file__)
SHELL = ("sh", str(Path(installer.__file__).with_suffix(".sh")))


@pytest.mark.parametrize("program", [PYTHON, SHELL], ids=["python", "sh"])
def test_killed_at_any_moment_the_current_version_is_whole(tmp_path: Path, program: tuple[str, str]) -> None:
    files = {}
    for name, size in (("a", 40), ("b", 60)):
        files[name] = tmp_path / name / "model.bin"
        files[name].parent.mkdir()
        files[name].write_bytes(name.encode() * (size << 20))
    root, chance = tmp_path / "models", random.Random(0)
    subprocess.run([*program, "install", root, "a", "0", "model.bin", files["a"]], check=True)
    for _ in range(KILLS):
        version = "b" if (root / "current").readlink() == Path("a") else "a"
        shutil.rmtree(root / version, ignore_errors=True)
        argv = [*program, "install", root, version, "0", "model.bin", files[version]]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            time.sleep(chance.uniform(0, 0.15))
            os.killpg(process.pid, signal.SIGKILL)
        current = (root / "current").readlink()
        assert (root / "current/model.bin").read_bytes() == files[str(current)].read_bytes()


def test_the_verb(versions: list[Path], running_board: Board, capfd: pytest.CaptureFixture[str]) -> None:
    board = running_board.url(python=sys.executable)
    for path in versions[:2]:
        assert main(["deploy", str(path), "--device", board, "--device", "local:"]) == 0
    told = capfd.readouterr().out
    assert f"{board}: models/tiny/current is 1.0.0-" in told
    assert "; before it 1.0.0-" in told
    current = running_board.home / "models/tiny/current/tiny-1.0.0.edgekit"
    assert current.read_bytes() == versions[1].read_bytes()
    assert main(["deploy", str(versions[1]), "--device", board, "--rollback"]) == 0
    assert current.read_bytes() == versions[0].read_bytes()


def test_one_device_of_two_fails(versions: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", str(versions[0]), "--device", "local:", "--device", "ssh://no-such-host.invalid"]) == 3
    told = capfd.readouterr().out
    assert "local: models/tiny/current is 1.0.0-" in told
    assert "OfflineError: " in told
    assert main(["deploy", str(versions[0]), "--device", "ssh://no-such-host.invalid"]) == 3
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--keep", "-1"), "--keep is -1, expected 0 or more"),
        (("--device", "local:"), "--device local: is given twice; each device once"),
    ],
)
def test_flags_that_cannot_be(
    versions: list[Path], capfd: pytest.CaptureFixture[str], flags: tuple[str, ...], words: str
) -> None:
    assert main(["deploy", str(versions[0]), "--device", "local:", *flags]) == 2
    assert capfd.readouterr().err == f"error: {words}\n"

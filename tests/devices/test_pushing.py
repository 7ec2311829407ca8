from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit.devices.local import LocalTransport
from edgekit.devices.pushing import push_by_content, push_once, remove
from edgekit.devices.transport import Sent, unheard
from edgekit.errors import DeviceError, DeviceFullError
from edgekit.progress import Advance


class Recorder(LocalTransport):
    """Counts pushes, and can lose the end of one."""

    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[str] = []
        self.loses_bytes = 0

    def push(self, local: Path, remote: str, sent: Sent = unheard) -> None:
        super().push(local, remote, sent)
        self.pushed.append(remote)
        path = self.root / remote
        path.write_bytes(path.read_bytes()[: path.stat().st_size - self.loses_bytes])


@pytest.fixture
def device() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.edgekit"
    path.write_bytes(b"content")
    return path


def files(device: LocalTransport) -> list[str]:
    return sorted(str(path.relative_to(device.root)) for path in device.root.rglob("*") if path.is_file())


def test_the_remote_path_carries_the_hash(device: Recorder, source: Path) -> None:
    remote = push_by_content(device, source)
    assert remote == f"edgekit/{hashlib.sha256(b'content').hexdigest()}/model.edgekit"
    assert files(device) == [remote]
    assert device.pushed[0].startswith(remote)
    assert device.pushed[0].endswith(".part")


def test_the_same_bytes_are_not_pushed_again(device: Recorder, source: Path) -> None:
    assert push_by_content(device, source) == push_by_content(device, source)
    assert len(device.pushed) == 1


def test_a_damaged_file_of_that_name_is_replaced(device: Recorder, source: Path) -> None:
    remote = push_by_content(device, source)
    (device.root / remote).write_bytes(b"CONTENT")
    push_by_content(device, source)
    assert (device.root / remote).read_bytes() == b"content"


def test_a_push_that_loses_bytes_leaves_nothing(device: Recorder, source: Path) -> None:
    device.loses_bytes = 1
    with pytest.raises(DeviceError, match=r"model.edgekit arrived with sha256 \w+, expected \w+; try again"):
        push_by_content(device, source)
    assert files(device) == []


class Shown:
    """What a user would see."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.units = 0

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        self.tasks.append(f"{description} of {total}")
        yield self._advance

    def _advance(self, units: int, _words: str) -> None:
        self.units += units


def test_what_came_before_the_device_was_full_does_not_stay(device: Recorder, source: Path) -> None:
    def push(local: Path, remote: str, sent: Sent = unheard) -> None:
        (device.root / remote).write_bytes(b"con")
        raise DeviceFullError("no space left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "push", push)
        for send in (push_by_content, push_once):
            with pytest.raises(DeviceFullError, match="no space left"):
                send(device, source)
    assert files(device) == []


def test_what_dead_sessions_left_is_swept(device: Recorder, source: Path) -> None:
    old, young = (device.root / "edgekit" / name for name in ("a/model.1.part", "inputs-2.part"))
    old.parent.mkdir(parents=True)
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    remote = push_by_content(device, source)
    assert files(device) == sorted([remote, "edgekit/inputs-2.part"]), "another session may be at work on that one"


def test_what_takes_long_is_shown(device: Recorder, source: Path) -> None:
    device.progress = shown = Shown()
    push_by_content(device, source)
    assert shown.tasks == [], "it is there at once"
    source.write_bytes(bytes(3 << 20))
    push_by_content(device, source)
    assert shown.tasks == ["local: model.edgekit, 3 MB of 3145728"]
    assert shown.units == 3 << 20


def test_a_file_is_removed_and_may_be_gone_already(device: Recorder, source: Path) -> None:
    remote = push_by_content(device, source)
    remove(device, remote, "none")
    assert files(device) == []

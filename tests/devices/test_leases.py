from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.devices import adb_client, leases
from edgekit.devices.leases import leased_device, take_lease
from edgekit.devices.ssh_client import parse_url
from edgekit.errors import DeviceBusyError, OutputError
from tests.devices.sshd import Board

HOLD = """
import sys, time
from edgekit.devices.leases import take_lease
lease = take_lease([sys.argv[1]])
print("ours", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "data"))


@pytest.fixture
def other_session() -> subprocess.Popen[str]:
    """Another process that has local:board."""
    environment = {**os.environ, "CI_JOB_URL": "https://ci/job/7"}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, "local:board"], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ours\n"
    return process


def end(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate()


def test_one_session_at_a_time_and_the_other_is_told_who(other_session: subprocess.Popen[str]) -> None:
    try:
        with pytest.raises(DeviceBusyError) as caught:
            take_lease(["local:board"], wait_s=0.3)
    finally:
        end(other_session)
    message = str(caught.value)
    assert message.startswith("local:board is held by ")
    assert f"process {other_session.pid}, job https://ci/job/7, since 20" in message
    assert message.endswith(": waited 0.3 s")
    assert caught.value.exit_code == 3


def test_a_session_that_was_killed_leaves_no_lease(other_session: subprocess.Popen[str]) -> None:
    end(other_session, signal.SIGKILL)
    take_lease(["local:board"], wait_s=0).release()


def test_they_take_turns(other_session: subprocess.Popen[str], caplog: pytest.LogCaptureFixture) -> None:
    with subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {other_session.pid}"]):
        take_lease(["local:board"], wait_s=30).release()
    other_session.communicate()
    assert "local:board is held by" in caplog.text
    assert "waiting 30 s at most" in caplog.text


def test_the_first_that_is_free(other_session: subprocess.Popen[str]) -> None:
    lease = take_lease(["local:board", "local:board2"], wait_s=0)
    assert lease.url == "local:board2"
    lease.release()
    end(other_session)


def test_given_back_it_can_be_taken_again() -> None:
    with leased_device("local:one") as (device, _):
        assert device.url == "local:one"
        with pytest.raises(DeviceBusyError):
            take_lease(["local:one"], wait_s=0)
    lease = take_lease(["local:one"], wait_s=0)
    lease.release()
    lease.release()


def test_a_process_that_was_started_under_a_lease_has_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    outer = take_lease(["local:one"], wait_s=0)
    monkeypatch.setenv(leases.TOKENS, f"other,{outer.token}")
    inner = take_lease(["local:one"], wait_s=0)
    inner.release()
    monkeypatch.delenv(leases.TOKENS)
    with pytest.raises(DeviceBusyError):  # the inner one gave back nothing
        take_lease(["local:one"], wait_s=0)
    outer.release()


def test_this_machine_is_for_everybody() -> None:
    assert take_lease(["local:"], wait_s=0).url == take_lease(["local:"], wait_s=0).url


def test_no_place_for_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="choose a folder with EDGEKIT_DATA"):
        take_lease(["local:one"], wait_s=0)


def test_two_folders_of_a_board_are_one_board() -> None:
    lease = take_lease(["ssh://nano@board/a"], wait_s=0)
    with pytest.raises(DeviceBusyError):
        take_lease(["ssh://root@board/b?python=python3.11"], wait_s=0)
    take_lease(["ssh://nano@board:2222/a"], wait_s=0).release()
    lease.release()


def test_two_ways_to_a_phone_are_one_phone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb_client, "attached_phones", lambda: ["adb:R58M12345"])
    lease = take_lease(["adb:R58M12345"], wait_s=0)
    for url in ("adb:R58M12345?python=python3", "adb:?folder=/data/x"):
        with pytest.raises(DeviceBusyError):
            take_lease([url], wait_s=0)
    take_lease(["adb:emulator-5554"], wait_s=0).release()
    lease.release()


class TestOnTheBoard:
    """What machines leave on a board for each other."""

    @pytest.fixture(autouse=True)
    def _no_lease(self, running_board: Board) -> None:
        self.lease_file = Path(parse_url(running_board.url()).folder, "lease.json")
        self.lease_file.unlink(missing_ok=True)

    def leave(self, *, host: str, age_s: float = 0.0) -> None:
        holder = {"token": "t", "user": "ann", "host": host, "pid": 7, "since": "now", "job": None}
        self.lease_file.parent.mkdir(parents=True, exist_ok=True)
        self.lease_file.write_text(json.dumps(holder))
        then = time.time() - age_s
        os.utime(self.lease_file, (then, then))

    def test_another_machine_has_it(self, running_board: Board) -> None:
        self.leave(host="elsewhere")
        with (
            pytest.raises(DeviceBusyError, match="held by ann@elsewhere, process 7"),
            leased_device(running_board.url(), wait_s=0.0),
        ):
            pass
        self.leave(host="elsewhere", age_s=leases.TTL_S + 1)  # without a sign of life
        with leased_device(running_board.url(), wait_s=0.0):
            assert json.loads(self.lease_file.read_text())["pid"] == os.getpid()
        assert not self.lease_file.exists()

    def test_a_dead_session_of_this_machine(self, running_board: Board) -> None:
        import socket

        self.leave(host=socket.gethostname())
        with leased_device(running_board.url(), wait_s=0.0):
            pass

    def test_a_lease_that_was_lost(self, running_board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leases, "RENEW_S", 0.0)
        with leased_device(running_board.url()) as (_, lease):
            lease.renew()
            self.leave(host="elsewhere")
            with pytest.raises(DeviceBusyError, match="its lease was lost to ann@elsewhere"):
                lease.renew()
        assert self.lease_file.exists()  # it is theirs
        self.lease_file.unlink()

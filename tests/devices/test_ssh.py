"""ssh against a real sshd on loopback: what goes wrong is told apart, and a broken link loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.devices import deploy, open_device, ssh_client
from edgekit.devices.ssh import SshTransport
from edgekit.devices.ssh_client import parse_url
from edgekit.errors import (
    ConfigError,
    DeviceError,
    DeviceFullError,
    DeviceTimeoutError,
    HostKeyError,
    LinkError,
    OfflineError,
    UnauthorizedError,
)
from edgekit.files import sha256_file
from tests.devices.sshd import Board, free_port, know, write_config

LARGE_MIB = 200


@pytest.fixture
def device(board: Board) -> Iterator[SshTransport]:
    transport = SshTransport(board.url(python=sys.executable))
    yield transport
    transport.close()


def soon(work: Callable[[], object], after_s: float) -> threading.Timer:
    timer = threading.Timer(after_s, work)
    timer.start()
    return timer


def is_running(word: str) -> bool:
    return word in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def waits_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize(
    ("url", "host", "user", "port", "folder", "python"),
    [
        ("ssh://board", "board", None, None, ".edgekit", "python3"),
        ("ssh://me@10.0.0.2:2222", "10.0.0.2", "me", 2222, ".edgekit", "python3"),
        ("ssh://Nano-1/opt/edge?python=/opt/py/bin/python3", "Nano-1", None, None, "/opt/edge", "/opt/py/bin/python3"),
        ("ssh://me@[fe80::1]:22", "fe80::1", "me", 22, ".edgekit", "python3"),
    ],
)
def test_what_a_url_says(url: str, host: str, user: str | None, port: int | None, folder: str, python: str) -> None:
    target = parse_url(url)
    assert (target.host, target.user, target.port, target.folder, target.python) == (host, user, port, folder, python)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ssh://", "names no host"),
        ("ssh://me@", "names no host"),
        ("ssh://-oProxyCommand=evil", "names no host"),
        ("ssh://board:nine", "Port could not be cast"),
        ("ssh://me:secret@board", "holds a password"),
        ("ssh://board?pyhton=x", "sets 'pyhton'; did you mean 'python'?"),
        ("ssh://board?config=/none", "takes ssh's settings from /none, which is no file"),
    ],
)
def test_what_no_url_says(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_device(url)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_demos_path_over_ssh(device: SshTransport, board: Board, tiny_bundle: Path) -> None:
    deployed = deploy(tiny_bundle, device)
    assert deployed.golden("tflite-int8").results[0].passed
    assert deployed.bench("tflite-int8", warmup=1, runs=3).results[0].timing.runs == 3
    before = {path: path.stat().st_mtime_ns for path in (board.home / "edgekit").rglob("*.edgekit")}
    another = SshTransport(board.url(python=sys.executable))
    deploy(tiny_bundle, another)
    another.close()
    assert {path: path.stat().st_mtime_ns for path in (board.home / "edgekit").rglob("*.edgekit")} == before


def test_another_host_key(board: Board) -> None:
    know(board, board.folder / "other_key.pub")
    with pytest.raises(HostKeyError, match=r"ssh-keygen -R"):
        open_device(board.url())


def test_a_host_that_nobody_knows(board: Board) -> None:
    (board.folder / "known_hosts").unlink()
    with pytest.raises(HostKeyError, match=r"Host key verification failed"):
        open_device(board.url())


def test_a_key_that_is_not_let_in(board: Board) -> None:
    write_config(board, key="other_key")
    with pytest.raises(UnauthorizedError, match=r"Permission denied.*ssh-copy-id"):
        open_device(board.url())


def test_nobody_answers(board: Board) -> None:
    write_config(board, port=free_port())
    with pytest.raises(OfflineError, match=r"Connection refused.*switched on"):
        open_device(board.url())


def test_no_such_host(board: Board) -> None:
    with pytest.raises(OfflineError, match=r"Could not resolve"):
        open_device(board.url(host="no-such-host.invalid"))


def test_no_ssh_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeviceError, match="there is no ssh here: install OpenSSH's client"):
        open_device("ssh://board")


def test_no_python_there(board: Board) -> None:
    device = SshTransport(board.url(python="python9"))
    with pytest.raises(DeviceError, match=r"exit code 127; stderr: .*python9"):
        device.run(["true"], timeout_s=10)
    device.close()


def test_a_folder_that_cannot_be_made(board: Board) -> None:
    board.home.write_text("a file")
    with pytest.raises(DeviceError, match=r"exit code 1; stderr: .*File exists"):
        open_device(board.url())


def test_a_command_goes_on_while_the_link_is_cut(device: SshTransport, board: Board) -> None:
    code = "import time\nfor number in range(8): print(number, flush=True); time.sleep(0.25)"
    timer = soon(board.cut, 0.8)
    result = device.run([device.python, "-c", code], timeout_s=60)
    timer.join()
    assert result.stdout.split() == [str(number) for number in range(8)]
    assert (result.exit_code, result.stderr) == (0, "")


def cut_in_the_middle(board: Board, folder: Path, pattern: str) -> tuple[threading.Thread, list[int]]:
    """Cut the link once a file has come some way; the thread to join, and how far it was."""
    cut_at: list[int] = []

    def size() -> int:
        return sum(path.stat().st_size for path in folder.glob(pattern))

    def cut() -> None:
        waits_for(lambda: size() > 1 << 20)
        board.cut()
        cut_at.append(size())

    thread = threading.Thread(target=cut)
    thread.start()
    return thread, cut_at


def test_a_push_goes_on_where_the_link_was_cut(device: SshTransport, board: Board, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(1 << 20) * LARGE_MIB)
    thread, cut_at = cut_in_the_middle(board, board.home, "there")
    device.push(tmp_path / "large", "there")
    thread.join()
    assert 0 < cut_at[0] < LARGE_MIB << 20
    assert sha256_file(board.home / "there") == sha256_file(tmp_path / "large")


def test_a_pull_goes_on_where_the_link_was_cut(device: SshTransport, board: Board, tmp_path: Path) -> None:
    (board.home / "there").write_bytes(os.urandom(1 << 20) * LARGE_MIB)
    thread, cut_at = cut_in_the_middle(board, tmp_path, ".here*")
    device.pull("there", tmp_path / "here")
    thread.join()
    assert 0 < cut_at[0] < LARGE_MIB << 20
    assert sha256_file(board.home / "there") == sha256_file(tmp_path / "here")


def test_a_link_that_stays_broken(device: SshTransport, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.devices.retrying.WAIT_S", 0.01)
    board.stop()
    with pytest.raises((LinkError, OfflineError)):
        device.run(["true"], timeout_s=5)


def test_what_a_command_started_ends_with_it(device: SshTransport) -> None:
    with pytest.raises(DeviceTimeoutError, match=r"was not done after 0\.5 s"):
        device.run(["sh", "-c", "sleep 3141 & sleep 3142"], timeout_s=0.5)
    assert waits_for(lambda: not is_running("sleep 314"))


def test_a_client_that_gives_up_leaves_no_process(device: SshTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    end = device._end

    def first_look(identity: str) -> None:
        ended.append(is_running("sleep 2718"))
        end(identity)

    monkeypatch.setattr(device, "_end", first_look)
    monkeypatch.setattr("edgekit.devices.ssh.GRACE_S", -598.0)  # its own deadline comes two seconds on
    with pytest.raises(DeviceTimeoutError, match="no answer in time"):
        device.run(["sleep", "2718"], timeout_s=600)
    assert ended == [True], "it outlived the connection"
    monkeypatch.undo()
    device._end("unknown")  # is no error
    assert waits_for(lambda: not is_running("sleep 2718"), 1) or ended


def test_an_interrupt_waits_for_no_deadline(device: SshTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = []

    class Interrupted(threading.Timer):
        def start(self) -> None:
            timers.append(self)
            super().start()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ssh_client, "Timer", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            device.run(["true"], timeout_s=600)
    assert timers
    assert all(timer.finished.is_set() and timer.daemon for timer in timers)


def test_no_space_there(device: SshTransport, board: Board, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 4096)
    (board.home / "full").symlink_to("/dev/full")
    with pytest.raises(DeviceFullError, match=r"No space left on device"):
        device.push(tmp_path / "file", "full")


def test_results_that_were_fetched_are_removed(device: SshTransport, board: Board) -> None:
    for _ in range(3):
        device.run(["true"], timeout_s=30)
    assert len(list((board.home / "runs").iterdir())) == 1

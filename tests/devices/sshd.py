"""A real sshd on loopback, with keys and settings of its own, as a board to connect to."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

DEADLINE_S = 20.0


def why_not() -> str | None:
    """What is missing for an sshd here, and how to get it."""
    missing = [name for name in ("sshd", "ssh", "ssh-keygen") if not find(name)]
    return f"no {', '.join(missing)} here: apt-get install openssh-server openssh-client" if missing else None


def find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Board:
    """The sshd, and what a client needs to reach it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def home(self) -> Path:
        """The device's folder."""
        return self.folder / "device"

    def url(self, host: str = "board", **settings: str) -> str:
        more = "".join(f"&{name}={value}" for name, value in settings.items())
        return f"ssh://{host}{self.home}?config={self.config}{more}"

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # as the service's own start makes it
        argv = [str(find("sshd")), "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "sshd.log").open("wb") as log:
            self.process = subprocess.Popen(argv, stderr=log, stdout=log, start_new_session=True)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < deadline, (self.folder / "sshd.log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """With every connection that it has."""
        if self.process is not None:
            sessions = self._sessions()
            self.process.kill()
            self.process.wait()
            kill(sessions)
            self.process = None

    def cut(self) -> None:
        """Kill the connections that are open; new ones are answered."""
        kill(self._sessions())

    def _sessions(self) -> list[int]:
        assert self.process is not None
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [line.split() for line in listed.splitlines()]
        return [int(pid) for pid, parent in pairs if int(parent) == self.process.pid]


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def make_board(folder: Path) -> Board:
    """Keys, settings and a port; it is not started."""
    board = Board(folder, free_port())
    for name in ("host_key", "client_key", "other_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, capture_output=True
        )
    shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
    know(board, folder / "host_key.pub")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {board.port}\nHostKey {folder}/host_key\nPidFile none\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\nUsePAM no\n"
    )
    write_config(board)
    return board


@contextmanager
def served(folder: Path) -> Iterator[Board]:
    """A board that answers while this lasts; a test skips where there is no sshd."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    board = make_board(folder)
    board.start()
    yield board
    board.stop()


def know(board: Board, public: Path) -> None:
    """Make a host key the known one."""
    (board.folder / "known_hosts").write_text(f"[127.0.0.1]:{board.port} {public.read_text()}")


def write_config(board: Board, key: str = "client_key", port: int | None = None) -> None:
    """The client's: `board` is the sshd."""
    board.config.write_text(
        f"Host board\n HostName 127.0.0.1\n Port {port or board.port}\n IdentityFile {board.folder}/{key}\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {board.folder}/known_hosts\n GlobalKnownHostsFile none\n"
        " StrictHostKeyChecking yes\n"
    )

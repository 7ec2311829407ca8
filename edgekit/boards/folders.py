"""Where boards are kept: a folder each, whole or not there, with all that a board is."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekit.errors import ConfigError, DeviceError, did_you_mean
from edgekit.files import remove_folder
from edgekit.strict import parse

FACTS, DISK, KERNEL, INITRD, PID, LOCK, SERIAL = (
    "board.json", "disk.qcow2", "vmlinuz", "initrd.gz", "pid", "lock", "serial.log",
)  # fmt: skip
KEY, KNOWN_HOSTS, SSH_CONFIG, ADB_PORT = "id_ed25519", "known_hosts", "ssh_config", "adb_port"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

State = Literal["running", "stopped", "died"]
Scheme = Literal["ssh", "adb"]


@dataclass(frozen=True)
class Facts:
    """board.json: how a board was made."""

    preset: str
    created: str  # ISO 8601 in UTC
    memory_mib: int
    packages: Mapping[str, str]  # Python packages on it -> version
    scheme: Scheme = "ssh"  # of its device URL


@dataclass(frozen=True)
class Board:
    """A virtual board that was created."""

    folder: Path
    facts: Facts

    @property
    def name(self) -> str:
        """As the user calls it."""
        return self.folder.name

    @property
    def url(self) -> str:
        """Its device URL."""
        return self.ssh_url if self.facts.scheme == "ssh" else f"adb:{self.adb_serial}?python=python3"

    @property
    def ssh_url(self) -> str:
        """It has an sshd in any case; the port is in its ssh_config, and another at each start."""
        return f"ssh://{self.name}/opt/edgekit?config={self.folder / SSH_CONFIG}"

    @property
    def adb_serial(self) -> str | None:
        """None where it has no adbd; another only where somebody else took the port while it was off."""
        return None if self.facts.scheme == "ssh" else f"127.0.0.1:{(self.folder / ADB_PORT).read_text().strip()}"

    @property
    def state(self) -> State:
        """`died`: its QEMU ended without `stop`."""
        if self.process is not None:
            return "running"
        return "died" if (self.folder / PID).exists() else "stopped"

    @property
    def process(self) -> int | None:
        """The id of its QEMU, which names the board's own file; another program may have got a dead one's id."""
        mark = str(self.folder / PID).encode()
        with suppress(OSError, ValueError):
            pid = int((self.folder / PID).read_text())
            if mark in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        return None

    def last_words(self) -> str:
        """The end of what it wrote to its serial port."""
        with suppress(OSError):
            lines = (self.folder / SERIAL).read_text(errors="replace").splitlines()
            return " | ".join(line.strip() for line in lines[-3:] if line.strip()) or "none"
        return "none"


def boards_folder() -> Path:
    """`$EDGEKIT_BOARDS`, else `edgekit/boards` in the user's cache folder."""
    chosen = os.environ.get("EDGEKIT_BOARDS")
    return Path(chosen or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "edgekit/boards")).absolute()


def check_name(name: str) -> str:
    """Raises ConfigError unless it is fit for a host and a folder."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a board cannot be called '{name}': up to 32 of a-z, 0-9 and -, and no - first")
    return name


def list_boards(root: Path | None = None) -> list[Board]:
    """Every board that was created, by name."""
    root = root or boards_folder()
    return [_read(path.parent) for path in sorted(root.glob(f"[!.]*/{FACTS}"))]


def find_board(name: str, root: Path | None = None) -> Board:
    """Raises ConfigError when there is none of that name."""
    folder = (root or boards_folder()) / check_name(name)
    if not (folder / FACTS).exists():
        names = [board.name for board in list_boards(root)]
        raise ConfigError(f"no board '{name}'{did_you_mean(name, names)}: edgekit board create {name}")
    return _read(folder)


def delete(board: Board) -> None:
    """Remove a board that does not run. Raises ConfigError, OutputError."""
    with locked(board):
        if board.process is not None:
            raise ConfigError(f"board '{board.name}' is running: edgekit board stop {board.name}")
        remove_folder(board.folder)


@contextmanager
def locked(board: Board) -> Iterator[None]:
    """One command at a time; the lock goes with the process that holds it. Raises DeviceError."""
    with (board.folder / LOCK).open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise DeviceError(f"board '{board.name}': another command is at work on it; try again") from problem
        yield


def _read(folder: Path) -> Board:
    path = folder / FACTS
    try:
        content = json.loads(path.read_text())
    except ValueError as problem:
        raise ConfigError(f"{path}: {problem}; remove {folder} and create the board anew") from problem
    return Board(folder, parse(Facts, content, where=str(path)))

"""One session at a time on a device: the others wait, with a deadline, and are told who has it.

Two locks, so that a lease never outlives its session for long. On this machine it is a lock of the kernel (flock),
which ends with the process that holds it, however it ends. On a board that several machines reach it is also a file
there, with a sign of life: one that is older than `TTL_S`, or of a dead process of this machine, counts no more.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from edgekit.devices import adb_client, board_lease
from edgekit.devices.local import HERE
from edgekit.devices.opening import opened_device
from edgekit.devices.ssh_client import parse_url
from edgekit.devices.transport import Transport, checked
from edgekit.errors import DeviceBusyError, DeviceError, OutputError
from edgekit.places import data_folder
from edgekit.strict import parse

log = logging.getLogger(__name__)

WAIT_S = 600.0  # until a device must be free
TTL_S = 1800.0  # without a sign of life, a lease on a board is over
RENEW_S = 60.0
TOKENS = "EDGEKIT_LEASE"  # of the leases that a parent process holds, with commas
_EVERY_S = 0.2
_TIMEOUT_S = 60.0
_JOBS = ("CI_JOB_URL", "GITHUB_RUN_ID", "BUILD_URL")  # GitLab, GitHub, Jenkins


@dataclass(frozen=True)
class Holder:
    """Who has a device."""

    token: str
    user: str
    host: str
    pid: int
    since: str  # ISO 8601 in UTC
    job: str | None = None  # of a CI

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"{self.user}@{self.host}, process {self.pid}{job}, since {self.since}"


class Lease:
    """A device that is ours until `release`; a second one is harmless."""

    def __init__(self, url: str, holder: Holder, lock: IO[str] | None) -> None:
        self.url = url
        self.token = holder.token
        self._holder = holder
        self._lock = lock  # None: a parent process holds it
        self._device: Transport | None = None
        self._renewed = 0.0

    def extend_to(self, device: Transport, *, deadline: float) -> None:
        """Take it on the board too, where other machines may reach it. Raises DeviceBusyError, DeviceError."""
        if not self.url.startswith("ssh:"):
            return
        while (other := self._ask(device, "take")) is not None:
            _wait(self.url, other, deadline)
        self._device, self._renewed = device, time.monotonic()

    def renew(self) -> None:
        """Give a sign of life, now and then. Raises DeviceBusyError when another session took the device meanwhile."""
        if self._device is None or time.monotonic() - self._renewed < RENEW_S:
            return
        other = self._ask(self._device, "take")
        if other is not None:
            raise DeviceBusyError(f"{self.url}: its lease was lost to {other}")
        self._renewed = time.monotonic()

    def release(self) -> None:
        """Give it back."""
        if self._device is not None and self._lock is not None:
            with contextlib.suppress(DeviceError):  # a board that is gone forgets in time
                self._ask(self._device, "release")
        self._device = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _ask(self, device: Transport, verb: str) -> Holder | None:
        code = Path(board_lease.__file__).read_text(encoding="utf-8")
        words = [verb, json.dumps(asdict(self._holder)), str(TTL_S)]
        result = checked(device, [device.python or "python3", "-c", code, *words], timeout_s=_TIMEOUT_S)
        answer = json.loads(result.stdout)
        return None if answer is None else parse(Holder, answer, where=f"{device.url} lease", error=DeviceError)


@contextmanager
def leased_device(url: str, *, wait_s: float = WAIT_S) -> Iterator[tuple[Transport, Lease]]:
    """Connect to a device that is ours until the end. Raises DeviceBusyError after `wait_s`, and as `open_device`."""
    deadline = time.monotonic() + wait_s
    lease = take_lease([url], wait_s=wait_s)
    try:
        with opened_device(url) as device:
            lease.extend_to(device, deadline=deadline)
            try:
                yield device, lease
            finally:
                lease.release()
    finally:
        lease.release()


def take_lease(urls: Sequence[str], *, wait_s: float = WAIT_S) -> Lease:
    """The first of these devices that is free, on this machine. Raises DeviceBusyError after `wait_s`.

    `local:` is never taken: each session has a folder of its own there.
    """
    deadline, told = time.monotonic() + wait_s, False
    while True:
        busy = []
        for url in urls:
            lease = _try(url)
            if isinstance(lease, Lease):
                return lease
            busy.append(f"{url} is held by {lease or 'a session that begins'}")
        if time.monotonic() >= deadline:
            raise DeviceBusyError(f"{'; '.join(busy)}: waited {wait_s:g} s")
        if not told:
            log.warning("%s: waiting %g s at most", "; ".join(busy), wait_s)
            told = True
        time.sleep(_EVERY_S)


def _try(url: str) -> Lease | Holder | None:
    """A lease, or who has it; None where that cannot be read yet."""
    ours = _ourselves()
    if url == HERE:
        return Lease(url, ours, None)
    import fcntl

    lock = _open(_lock_file(url))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = _read(lock)
        lock.close()
        if other is not None and other.token in os.environ.get(TOKENS, "").split(","):
            return Lease(url, other, None)
        return other
    lock.seek(0)
    lock.truncate()
    json.dump(asdict(ours), lock)
    lock.flush()
    return Lease(url, ours, lock)


def _open(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")
    except OSError as problem:
        raise OutputError(f"cannot write {path}: {problem.strerror}; choose a folder with EDGEKIT_DATA") from problem


def _read(lock: IO[str]) -> Holder | None:
    lock.seek(0)
    try:
        return parse(Holder, json.load(lock), where=lock.name, error=DeviceError)
    except (ValueError, DeviceError):  # it is being written
        return None


def _lock_file(url: str) -> Path:
    """One for a board, whatever folder of it the URL names."""
    board = _board_of(url)
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", board)[:60]
    return data_folder() / "leases" / f"{slug}-{hashlib.sha256(board.encode()).hexdigest()[:8]}.lock"


def _board_of(url: str) -> str:
    if url.startswith("ssh:"):
        target = parse_url(url)
        return f"ssh-{target.host}-{target.port or ''}"
    if url.startswith("adb:"):
        serial = adb_client.parse_url(url).serial
        phones = [] if serial else adb_client.attached_phones()
        return phones[0] if len(phones) == 1 else f"adb:{serial}"  # of none and of several, opening it will speak
    return url


def _ourselves() -> Holder:
    job = next((os.environ[name] for name in _JOBS if os.environ.get(name)), None)
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Holder(secrets.token_hex(8), getpass.getuser(), socket.gethostname(), os.getpid(), since, job)


def _wait(url: str, other: Holder, deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise DeviceBusyError(f"{url} is held by {other}: the time to wait is over")
    time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))

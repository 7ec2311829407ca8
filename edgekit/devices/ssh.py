"""A board over ssh: commands under a supervisor that outlives the connection, files that arrive whole."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any  # Any: the supervisor's replies, which are JSON

from edgekit.devices import supervisor
from edgekit.devices.hearing import Hearing
from edgekit.devices.retrying import inside, retried
from edgekit.devices.ssh_client import SshClient, Target, parse_url
from edgekit.devices.transport import CommandResult, Heard, Sent, logged, unheard
from edgekit.errors import DeviceError, DeviceFullError, DeviceTimeoutError, LinkError
from edgekit.files import atomic
from edgekit.progress import LoggedProgress, Progress

GRACE_S = 30.0  # for connecting and telling, beyond a command's own time
COPY_S = 600.0
LOOK_S = 0.2  # between two looks at how far a file is


@dataclass
class _Told:
    """What the supervisor has told so far of one command."""

    hearing: Hearing
    status: dict[str, Any] | None = None

    def take(self, line: bytes) -> None:
        event = json.loads(line)
        self.hearing.stdout.take(base64.b64decode(event.get("stdout", "")))
        self.hearing.stderr.take(base64.b64decode(event.get("stderr", "")))
        self.status = event.get("ended", self.status)


class SshTransport:
    """Files and commands in a folder of the device that stays, so that what is there need not come again."""

    def __init__(self, url: str) -> None:
        """Connect, and bring the supervisor. Raises ConfigError on another URL, DeviceError."""
        self.target: Target = parse_url(url)
        self.url = url
        self.progress: Progress = LoggedProgress()
        self.listener: Heard = logged
        self.python = self.target.python
        self._client = SshClient(self.target)
        self._fetched: list[str] = []  # runs whose folders are no longer needed there
        source = Path(supervisor.__file__).read_bytes()
        self._supervisor = f"supervisor-{hashlib.sha256(source).hexdigest()[:16]}.py"
        try:
            retried(lambda: self._install(source))
        except BaseException:
            self.close()
            raise

    def run(self, argv: Sequence[str], *, timeout_s: float, heard: Heard = unheard) -> CommandResult:
        """Run under the supervisor; what a broken link interrupts is heard to its end after a reconnect."""
        identity, hearing = secrets.token_hex(8), Hearing(heard)
        told = _Told(hearing)
        deadline = time.monotonic() + timeout_s + GRACE_S
        try:
            retried(lambda: self._follow(identity, argv, timeout_s, told, deadline))
        except BaseException:
            self._end(identity)
            raise
        self._fetched.append(identity)
        status = told.status or {}
        if status["problem"] is not None:
            raise DeviceError(f"{self.url}: cannot start {shlex.join(argv)}: {status['problem']}")
        if status["timed_out"]:
            raise DeviceTimeoutError(f"{self.url}: {shlex.join(argv)} was not done after {timeout_s:g} s")
        stdout, stderr = hearing.stdout.end(), hearing.stderr.end()
        return CommandResult(tuple(argv), status["exit_code"], stdout, stderr, status["elapsed_s"])

    def push(self, local: Path, remote: str, sent: Sent = unheard) -> None:
        """Copy a file there, going on after a broken link where it stopped."""
        there, started = inside(remote, self.url), False

        def attempt() -> None:
            nonlocal started
            offset = self._ask("size", there)["size"] if started else 0
            started = True
            self._send_bytes(local, there, offset, sent)

        retried(attempt)

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from there, going on after a broken link where it stopped."""
        there = inside(remote, self.url)
        with atomic(local) as temporary:
            retried(lambda: self._fetch_bytes(there, temporary))

    def close(self) -> None:
        """End the connection; files stay on the device."""
        self._client.close()

    def drop_link(self) -> None:
        """Break the connection, as a cable that is pulled would; the next command connects again."""
        self._client.disconnect()

    def _install(self, source: bytes) -> None:
        folder, name = shlex.quote(self.target.folder), self._supervisor
        line = f"mkdir -p {folder} && cd {folder} && cat > {name}.$$ && mv {name}.$$ {name}"
        self._client.shell(line, source, timeout_s=GRACE_S)

    def _program(self) -> list[str]:
        """The supervisor; -S, since it needs no installed packages and starts sooner without."""
        return [self.python, "-S", self._supervisor]

    def _follow(self, identity: str, argv: Sequence[str], timeout_s: float, told: _Told, deadline: float) -> None:
        offsets = (str(len(told.hearing.stdout)), str(len(told.hearing.stderr)))
        request = [*self._program(), "run", identity, str(timeout_s), *offsets, *self._fetched, "--", *argv]
        with self._client.calling(request, timeout_s=deadline - time.monotonic()) as call:
            for line in call.stdout:
                if line.endswith(b"\n"):  # one that was cut is told again
                    told.take(line)
        if told.status is None and call.fault is not None:
            raise call.fault

    def _send_bytes(self, local: Path, remote: str, offset: int, sent: Sent) -> None:
        with local.open("rb") as stream, _watched(stream, sent):
            stream.seek(offset)
            reply = self._ask("receive", remote, str(offset), stdin=stream, timeout_s=COPY_S)
        if "problem" in reply:
            kind = DeviceFullError if reply["full"] else DeviceError
            raise kind(f"{self.url}: cannot copy {local} to {remote}: {reply['problem']}")
        if reply["size"] != local.stat().st_size:
            raise LinkError(f"{self.url}: {remote} has {reply['size']} of {local.stat().st_size} bytes")

    def _fetch_bytes(self, remote: str, local: Path) -> None:
        offset = local.stat().st_size
        request = [*self._program(), "send", remote, str(offset)]
        with self._client.calling(request, timeout_s=COPY_S) as call, local.open("ab") as stream:
            head = call.stdout.readline()
            shutil.copyfileobj(call.stdout, stream)
        if not head.endswith(b"\n") and call.fault is not None:
            raise call.fault
        reply = json.loads(head)
        if "problem" in reply:
            raise DeviceError(f"{self.url}: cannot copy {remote}: {reply['problem']}")
        if local.stat().st_size != reply["size"]:
            raise LinkError(f"{self.url}: {local.stat().st_size} of {reply['size']} bytes of {remote} arrived")

    def _ask(self, *words: str, stdin: Any = subprocess.DEVNULL, timeout_s: float = GRACE_S) -> dict[str, Any]:
        """One question to the supervisor, answered in one line."""
        request = [*self._program(), *words]
        with self._client.calling(request, timeout_s=timeout_s, stdin=stdin) as call:
            lines = call.stdout.read().splitlines()
        if not lines and call.fault is not None:
            raise call.fault
        reply: dict[str, Any] = json.loads(lines[-1])
        return reply

    def _end(self, identity: str) -> None:
        """Kill what may still run there; where that cannot be said, its own deadline does it."""
        try:
            self._ask("kill", identity)
        except DeviceError:
            return


@contextmanager
def _watched(stream: IO[bytes], sent: Sent) -> Iterator[None]:
    """Tell how far a file was read: ssh, to which it is given as its input, moves the position that is ours too."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_S):
            sent(os.lseek(stream.fileno(), 0, os.SEEK_CUR))

    watcher = threading.Thread(target=watch, daemon=True)  # an interrupt before the next line leaves it alone
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        sent(os.lseek(stream.fileno(), 0, os.SEEK_CUR))

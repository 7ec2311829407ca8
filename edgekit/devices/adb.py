"""A phone or board over adb: commands under a supervisor that outlives the connection, files that arrive whole."""

from __future__ import annotations

import hashlib
import secrets
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from edgekit.devices import adb_client
from edgekit.devices.adb_client import AdbClient, AdbTarget, parse_url
from edgekit.devices.hearing import Hearing
from edgekit.devices.retrying import inside, retried
from edgekit.devices.transport import CommandResult, Heard, Sent, logged, unheard
from edgekit.errors import DeviceError, DeviceTimeoutError, LinkError
from edgekit.files import atomic
from edgekit.progress import LoggedProgress, Progress

GRACE_S = 30.0  # for connecting and telling, beyond a command's own time
WAIT_S = 10  # most that one call waits for a command: a link that went silent is noticed after that and CALL_S
PIECE_BYTES = 8 << 20  # in one call
PIECE_S = 60.0

_RUNNING = "running"
_SIGNALS = range(129, 193)  # a shell's exit codes for commands that a signal ended
_SUPERVISOR = Path(__file__).with_name("supervisor.sh")


class _Frames:
    """What supervisor.sh says of a command, taken as it arrives; what a broken link cuts short is said again."""

    def __init__(self, hearing: Hearing) -> None:
        self._streams = {b"stdout": hearing.stdout, b"stderr": hearing.stderr}
        self._rest = bytearray()
        self.last: str | None = None  # the line that ends it

    def take(self, arrived: bytes) -> None:
        """Pass on the frames that are whole now."""
        self._rest += arrived
        while self._next():
            pass

    def _next(self) -> bool:
        """Whether there was a whole one."""
        head, newline, rest = self._rest.partition(b"\n")
        word, _, size = bytes(head).partition(b" ")
        stream = self._streams.get(word)
        if not newline or (stream is not None and len(rest) < int(size)):
            return False
        if stream is None:
            self.last = head.decode(errors="replace")
            self._rest = rest
        else:
            stream.take(bytes(rest[: int(size)]))
            self._rest = rest[int(size) :]
        return True


class AdbTransport:
    """Files and commands in a folder of the device that stays, so that what is there need not come again."""

    def __init__(self, url: str) -> None:
        """Connect, and bring the supervisor. Raises ConfigError on another URL, DeviceError."""
        self.target: AdbTarget = parse_url(url)
        self.url = url
        self.progress: Progress = LoggedProgress()
        self.listener: Heard = logged
        self.python = self.target.python
        self._client = AdbClient(self.target)
        self._fetched: list[str] = []  # runs whose folders are no longer needed there
        source = _SUPERVISOR.read_bytes()
        self._supervisor = f"supervisor-{hashlib.sha256(source).hexdigest()[:16]}.sh"
        retried(lambda: self._install(source), first=self._client.reconnect)

    def run(self, argv: Sequence[str], *, timeout_s: float, heard: Heard = unheard) -> CommandResult:
        """Run under the supervisor; what a broken link interrupts is heard to its end after a reconnect.

        A command that a signal ended and one that exits with 128 and the signal's number look the same to a shell.
        """
        identity, hearing = secrets.token_hex(8), Hearing(heard)
        deadline = time.monotonic() + timeout_s + GRACE_S

        def follow() -> str:
            return self._follow(identity, argv, timeout_s, hearing)

        try:
            while (last := retried(follow, first=self._client.reconnect)) == _RUNNING:
                if time.monotonic() > deadline:
                    raise DeviceTimeoutError(f"{self.url}: {shlex.join(argv)} was not ended at its deadline")
        except BaseException:
            self._end(identity)
            raise
        self._fetched = [identity]
        return self._result(argv, last, hearing, timeout_s)

    def push(self, local: Path, remote: str, sent: Sent = unheard) -> None:
        """Copy a file there in pieces, going on after a broken link with the piece that it cut."""
        there = inside(remote, self.url)
        with local.open("rb") as stream:
            for offset in _pieces(local.stat().st_size):
                self._send(there, offset, stream.read(PIECE_BYTES))
                sent(stream.tell())

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from there, in pieces likewise."""
        there = inside(remote, self.url)
        size = int(self._retried(["size", there]))
        with atomic(local) as temporary, temporary.open("wb") as stream:
            for offset in _pieces(size):
                stream.write(self._fetch(there, offset, min(PIECE_BYTES, size - offset)))

    def close(self) -> None:
        """Nothing is held: adb's server keeps the connection, and files stay on the device."""

    def _install(self, source: bytes) -> None:
        features = self._client.call(["-s", self._client.serial, "features"])
        if features.exit_code != 0 or not features.stdout:
            raise self._client.fault(features)
        if b"shell_v2" not in features.stdout:
            raise DeviceError(f"{self.url}: its adb gives no exit codes: Android 7 or newer is needed")
        folder, name = shlex.quote(self.target.folder), self._supervisor
        self._line(f"mkdir -p {folder} && cd {folder} && cat > {name}.$$ && mv {name}.$$ {name} && echo here", source)

    def _follow(self, identity: str, argv: Sequence[str], timeout_s: float, hearing: Hearing) -> str:
        """Start it, unless it was, and hear it until it ends or the call has lasted; the line that says which."""
        offsets = (str(len(hearing.stdout)), str(len(hearing.stderr)))
        words = ["run", identity, f"{timeout_s:.3f}", str(WAIT_S), *offsets, *self._fetched, "--", *argv]
        frames = _Frames(hearing)
        line = self._supervisor_line(words)
        answer = self._client.shell(line, timeout_s=WAIT_S + adb_client.CALL_S, arrived=frames.take)
        if answer.exit_code != 0:
            raise self._client.fault(answer)
        if frames.last is None:  # adb exits 0 when the link breaks while it listens
            raise LinkError(f"{self.url}: the link broke: an answer was cut short")
        return frames.last

    def _result(self, argv: Sequence[str], last: str, hearing: Hearing, timeout_s: float) -> CommandResult:
        word, *facts = last.split(" ")
        if word == "problem":
            raise DeviceError(f"{self.url}: cannot start {shlex.join(argv)}: {' '.join(facts)}")
        code, timed_out, centiseconds, *sizes = map(int, facts)
        if timed_out:
            raise DeviceTimeoutError(f"{self.url}: {shlex.join(argv)} was not done after {timeout_s:g} s")
        if sizes != [len(hearing.stdout), len(hearing.stderr)]:
            raise DeviceError(f"{self.url}: {shlex.join(argv)} printed {sum(sizes)} bytes, and not all of them came")
        stdout, stderr = hearing.stdout.end(), hearing.stderr.end()
        return CommandResult(tuple(argv), 128 - code if code in _SIGNALS else code, stdout, stderr, centiseconds / 100)

    def _send(self, remote: str, offset: int, piece: bytes) -> None:
        words = ["receive", remote, str(offset)]
        retried(lambda: self._supervised(words, piece, PIECE_S), first=self._client.reconnect)

    def _fetch(self, remote: str, offset: int, wanted: int) -> bytes:
        def attempt() -> bytes:
            line = self._supervisor_line(["send", remote, str(offset + 1), str(wanted)])
            answer = self._client.shell(line, timeout_s=PIECE_S)
            if answer.exit_code == 1 and not answer.stderr:
                raise DeviceError(f"{self.url}: cannot copy {remote}: it cannot be read")
            if answer.exit_code != 0 or len(answer.stdout) != wanted:
                raise LinkError(f"{self.url}: {len(answer.stdout)} of {wanted} bytes of {remote} arrived")
            return answer.stdout

        return retried(attempt, first=self._client.reconnect)

    def _retried(self, words: Sequence[str]) -> bytes:
        return retried(lambda: self._supervised(words), first=self._client.reconnect)

    def _supervised(self, words: Sequence[str], stdin: bytes = b"", timeout_s: float | None = None) -> bytes:
        return self._line(self._supervisor_line(words), stdin, timeout_s)

    def _supervisor_line(self, words: Sequence[str]) -> str:
        return f"cd {shlex.quote(self.target.folder)} && exec sh {self._supervisor} {shlex.join(words)}"

    def _line(self, line: str, stdin: bytes = b"", timeout_s: float | None = None) -> bytes:
        """What a line says. adb exits 0 when the link breaks while it listens, so that the end is looked at."""
        answer = self._client.shell(line, stdin=stdin, timeout_s=timeout_s)
        if answer.exit_code != 0:
            raise self._client.fault(answer)
        if not answer.stdout.endswith(b"\n"):
            raise LinkError(f"{self.url}: the link broke: an answer was cut short")
        return answer.stdout

    def _end(self, identity: str) -> None:
        """Kill what may still run there; where that cannot be said, its own deadline does it."""
        try:
            self._supervised(["kill", identity])
        except DeviceError:
            return


def _pieces(size: int) -> range:
    """Where each piece begins; a file without bytes is one piece."""
    return range(0, max(size, 1), PIECE_BYTES)

"""The adb binary: one call at a time, each with a deadline of ours, and what its words mean.

adb says what went wrong in words, and often exits 0 all the same. The adb server is the user's own, at the port that
ANDROID_ADB_SERVER_PORT says: a second server would take the USB devices away from the first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs

from edgekit.errors import (
    ConfigError,
    DeviceError,
    DeviceFullError,
    DeviceTimeoutError,
    LinkError,
    OfflineError,
    UnauthorizedError,
    did_you_mean,
)

EXAMPLE = "adb:SERIAL, adb:HOST:PORT, or adb: when one device is attached"
FOLDER = "/data/local/tmp/edgekit"  # where adb's shell may write and run files
CALL_S = 20.0  # for a call that has little to do
SETTLE_S = 5.0  # what a device that was just found may take to let us in
LOOK_S = 0.05  # between two looks at what a call has said

Arrived = Callable[[bytes], object]  # told what a call says, as it comes

_GET = 'install Android\'s platform tools (Debian: apt-get install adb), or pip install "edgekit[adb]"'
_HEAD = "List of devices attached"
_SETTINGS = ("folder", "python")
_TCP = re.compile(r"(?:[^:\s]+|\[[^\]\s]+\]):\d+")
_ALLOW = "; unlock it, and allow this computer on its screen"
_PIECE = 1 << 20
_UDEV = "; give this user the device (udev rules; Debian: apt-get install android-sdk-platform-tools-common)"
_SWITCHED_ON = "; is it switched on, with USB or wireless debugging allowed?"
_FAULTS: Mapping[str, type[DeviceError]] = {  # words of adb's, the first that are there
    "unauthorized": UnauthorizedError,
    "failed to authenticate": UnauthorizedError,
    "insufficient permissions": UnauthorizedError,
    "no permissions": UnauthorizedError,
    "No space left on device": DeviceFullError,
    "Disk quota exceeded": DeviceFullError,
    "Connection refused": OfflineError,
    "No route to host": OfflineError,
    "cannot resolve host": OfflineError,
    "failed to resolve": OfflineError,
    "Connection timed out": OfflineError,
    "failed to connect": OfflineError,
    "unable to connect": OfflineError,
    "cannot connect to daemon": DeviceError,
    "' not found": LinkError,
    "no devices/emulators found": LinkError,
    "device offline": LinkError,
    "error: closed": LinkError,
    "protocol fault": LinkError,
    "connection reset": LinkError,
    "device still": LinkError,
}


class StalledError(LinkError, DeviceTimeoutError):
    """Nothing came back in time: the link is broken, or the device is asleep or stopped; nobody can tell."""


@dataclass(frozen=True)
class AdbTarget:
    """What an adb URL says."""

    url: str
    serial: str  # empty: the one that is attached
    folder: str
    python: str | None  # what starts Python 3 there; None: it has none


@dataclass(frozen=True)
class AdbDevice:
    """One line of `adb devices`."""

    serial: str
    state: str  # "device", "offline", "unauthorized", "no permissions (…)"


@dataclass(frozen=True)
class Answer:
    """How a call of adb ended."""

    exit_code: int
    stdout: bytes
    stderr: str

    @property
    def said(self) -> str:
        """All its words in one line."""
        lines = [*self.stdout.decode(errors="replace").splitlines(), *self.stderr.splitlines()]
        return " | ".join(line.strip() for line in lines if line.strip())


def parse_url(url: str) -> AdbTarget:
    """Raises ConfigError."""
    rest, _, query = url.removeprefix("adb:").partition("?")
    settings = parse_qs(query, keep_blank_values=True)
    for name in settings:
        if name not in _SETTINGS:
            raise ConfigError(f"'{url}' sets '{name}'{did_you_mean(name, _SETTINGS)}")
    if rest.startswith(("-", "/")) or any(letter.isspace() for letter in rest):
        raise ConfigError(f"'{url}' names no device, expected {EXAMPLE}")
    folder, python = settings.get("folder", [FOLDER])[-1], settings.get("python", [None])[-1]
    if not folder.startswith("/"):
        raise ConfigError(f"'{url}': folder is '{folder}', expected a path that begins with /")
    return AdbTarget(url, rest, folder, python)


def parse_devices(text: str) -> tuple[AdbDevice, ...]:
    """What `adb devices` lists, whatever the daemon says before it."""
    lines = [line.strip() for line in text.splitlines()]
    listed = lines[lines.index(_HEAD) + 1 :] if _HEAD in lines else []
    rows = [line.split(None, 1) for line in listed if line and not line.startswith("*")]
    return tuple(AdbDevice(row[0], row[1]) for row in rows if len(row) > 1)


def classify(said: str) -> type[DeviceError] | None:
    """The error that adb's words stand for, if they stand for one."""
    return next((kind for words, kind in _FAULTS.items() if words in said), None)


def find_adb(url: str) -> str:
    """$ADB, else adb on the PATH, else that of the package adbutils. Raises DeviceError."""
    chosen = os.environ.get("ADB") or shutil.which("adb")
    package = find_spec("adbutils")
    if chosen is None and package is not None and package.origin is not None:
        chosen = shutil.which("adb", path=str(Path(package.origin).parent / "binaries"))
    if chosen is None or shutil.which(chosen) is None:
        raise DeviceError(f"{url}: there is no {chosen or 'adb'} here: {_GET}")
    return chosen


def attached_phones() -> list[str]:
    """URLs of what adb lists, ready or not; none where there is no adb. Raises StalledError."""
    try:
        adb = find_adb("adb:")
    except DeviceError:
        return []
    listed = parse_devices(_call(adb, ["devices"], url="adb:").stdout.decode(errors="replace"))
    return [f"adb:{device.serial}" for device in listed]


def _ignored(_: bytes) -> None:
    """For a call whose answer is looked at when it has ended."""


def _call(
    adb: str,
    words: Sequence[str],
    *,
    url: str,
    stdin: bytes = b"",
    timeout_s: float | None = None,
    arrived: Arrived = _ignored,
) -> Answer:
    """Run adb. Its output goes to files: a server that adb starts on the way would hold pipes open for ever."""
    timeout_s = CALL_S if timeout_s is None else timeout_s
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        with subprocess.Popen([adb, *words], stdin=given, stdout=out, stderr=err) as process:
            try:
                said = _follow(process, out, timeout_s, arrived)
            except subprocess.TimeoutExpired as problem:
                raise StalledError(f"{url}: no answer after {timeout_s:g} s; is it asleep?") from problem
            finally:
                process.kill()
        err.seek(0)
        return Answer(process.returncode, said, err.read().decode(errors="replace"))


def _follow(process: subprocess.Popen[bytes], out: IO[bytes], timeout_s: float, arrived: Arrived) -> bytes:
    """Tell what it writes until it has ended; returns all of it. Raises TimeoutExpired."""
    said, deadline, ended = bytearray(), time.monotonic() + timeout_s, False
    while not ended:
        left_s = deadline - time.monotonic()
        try:
            process.wait(max(min(LOOK_S, left_s), 0.0))
            ended = True
        except subprocess.TimeoutExpired:
            if left_s <= 0:
                raise
        while piece := os.pread(out.fileno(), _PIECE, len(said)):  # adb writes at the position that is ours too
            said += piece
            arrived(piece)
    return bytes(said)


class AdbClient:
    """Calls of adb about one device, always named."""

    def __init__(self, target: AdbTarget) -> None:
        """Find the device, and wait until it lets us in. Raises DeviceError, ConfigError where several are there."""
        self.url = target.url
        self._adb = find_adb(target.url)
        self.call(["start-server"])
        self.serial = target.serial or self._only()
        if AdbDevice(self.serial, "offline") in self.devices():
            self.reconnect()
        else:
            self._reach()

    def call(
        self, words: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None, arrived: Arrived = _ignored
    ) -> Answer:
        """Run adb; `arrived` is told what it says, as it comes. Raises StalledError when it does not end in time."""
        return _call(self._adb, words, url=self.url, stdin=stdin, timeout_s=timeout_s, arrived=arrived)

    def shell(
        self, line: str, *, stdin: bytes = b"", timeout_s: float | None = None, arrived: Arrived = _ignored
    ) -> Answer:
        """A line for the device's sh, without a terminal, so that bytes stay as they are."""
        words = ["-s", self.serial, "shell", "-T", line]
        return self.call(words, stdin=stdin, timeout_s=timeout_s, arrived=arrived)

    def fault(self, answer: Answer) -> DeviceError:
        """What an answer that is not the expected one means."""
        kind = classify(answer.said) or (LinkError if answer.exit_code in (0, 255) else DeviceError)
        said = answer.said or f"the connection broke (exit code {answer.exit_code})"
        return kind(f"{self.url}: {said}{_ALLOW if kind is UnauthorizedError else ''}")

    def devices(self) -> tuple[AdbDevice, ...]:
        """What is attached. Raises DeviceError when there is no adb server."""
        answer = self.call(["devices"])
        if answer.exit_code != 0:
            raise self.fault(answer)
        return parse_devices(answer.stdout.decode(errors="replace"))

    def reconnect(self) -> None:
        """Mend a broken link: over TCP by connecting again, over USB by waiting until it is back."""
        if _TCP.fullmatch(self.serial):
            self.call(["disconnect", self.serial])
        self._reach()

    def _only(self) -> str:
        serials = [device.serial for device in self.devices()]
        if not serials:
            raise OfflineError(f"{self.url}: no device is attached{_SWITCHED_ON}")
        if len(serials) > 1:
            names = ", ".join(serials)
            raise ConfigError(f"{len(serials)} devices attached ({names}): choose one with --device adb:SERIAL")
        return serials[0]

    def _reach(self) -> None:
        deadline = time.monotonic() + SETTLE_S
        while (state := self._state()) != "device":
            lasting = state.startswith("no permissions") or (state == "" and not _TCP.fullmatch(self.serial))
            if lasting or time.monotonic() > deadline:
                raise self._refusal(state)
            time.sleep(0.1)

    def _state(self) -> str:
        """Empty: adb does not know it. A device over TCP is asked for."""
        states = {device.serial: device.state for device in self.devices()}
        if self.serial not in states and _TCP.fullmatch(self.serial):
            answer = self.call(["connect", self.serial])  # exits 0 on a dead port
            if not answer.said.startswith(("connected to", "already connected")):
                # or the server goes on trying, and says "already connected" next
                self.call(["disconnect", self.serial])
                kind = classify(answer.said) or OfflineError
                advice = _ALLOW if kind is UnauthorizedError else _SWITCHED_ON
                raise kind(f"{self.url}: {answer.said}{advice}")
            return "offline"  # until it is listed
        return states.get(self.serial, "")

    def _refusal(self, state: str) -> DeviceError:
        if state.startswith("no permissions"):
            return UnauthorizedError(f"{self.url}: {state}{_UDEV}")
        if state == "unauthorized":
            return UnauthorizedError(f"{self.url}: unauthorized{_ALLOW}")
        if state == "":
            others = ", ".join(device.serial for device in self.devices()) or "none"
            return OfflineError(f"{self.url}: no such device is attached (attached: {others})")
        return OfflineError(f"{self.url}: it is {state}{_SWITCHED_ON}")

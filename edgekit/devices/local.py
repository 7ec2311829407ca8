"""This machine as a device: a temporary folder, real processes, the whole deploy path.

`local:` is this machine; `local:NAME` is a simulated device of that name on it, with a folder of its own, so that one
machine can stand for a fleet.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgekit.devices.hearing import Hearing
from edgekit.devices.transport import CommandResult, Heard, Sent, logged, unheard
from edgekit.errors import DeviceError
from edgekit.progress import LoggedProgress, Progress

HERE = "local:"
CHUNK = 1 << 16
_URL = re.compile(r"local:([A-Za-z0-9][A-Za-z0-9._-]*)?")


def is_local(url: str) -> bool:
    """Whether a URL names this machine, or a device that is simulated on it."""
    return _URL.fullmatch(url) is not None


class LocalTransport:
    """Commands run in a temporary folder that goes away with the connection."""

    python = sys.executable

    def __init__(self, url: str = HERE) -> None:
        self.url = url
        self.progress: Progress = LoggedProgress()
        self.listener: Heard = logged
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-local-")
        self.root = Path(self._folder.name)

    def run(self, argv: Sequence[str], *, timeout_s: float, heard: Heard = unheard) -> CommandResult:
        """Run a process of its own group in the folder; the group is killed when the time is over."""
        start = time.monotonic()
        try:
            process = subprocess.Popen(
                argv,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as problem:
            raise DeviceError(f"local: cannot start {shlex.join(argv)}: {problem.strerror or problem}") from problem
        hearing = Hearing(heard)
        with process:
            try:
                _listen(process, hearing, start + timeout_s)
            except subprocess.TimeoutExpired as problem:
                _kill(process)
                raise DeviceError(f"local: {shlex.join(argv)} was not done after {timeout_s:g} s") from problem
            except BaseException:
                _kill(process)
                raise
        stdout, stderr = hearing.stdout.end(), hearing.stderr.end()
        return CommandResult(tuple(argv), process.returncode, stdout, stderr, time.monotonic() - start)

    def push(self, local: Path, remote: str, sent: Sent = unheard) -> None:
        """Copy into the folder."""
        self._copy(local, self._inside(remote))
        sent(local.stat().st_size)

    def pull(self, remote: str, local: Path) -> None:
        """Copy out of the folder."""
        self._copy(self._inside(remote), local)

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    def _inside(self, remote: str) -> Path:
        path = (self.root / remote).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise DeviceError(f"local: '{remote}' is outside the device's folder")
        return path

    def _copy(self, source: Path, target: Path) -> None:
        try:
            shutil.copyfile(source, target)
        except OSError as problem:
            raise DeviceError(f"local: cannot copy {source} to {target}: {problem.strerror or problem}") from problem


def _listen(process: subprocess.Popen[bytes], hearing: Hearing, deadline: float) -> None:
    """Until both streams and the process have ended. Raises TimeoutExpired."""
    assert process.stdout is not None  # both are pipes
    assert process.stderr is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, hearing.stdout)
        selector.register(process.stderr, selectors.EVENT_READ, hearing.stderr)
        while selector.get_map():
            left_s = deadline - time.monotonic()
            if left_s < 0:
                raise subprocess.TimeoutExpired(process.args, left_s)
            for key, _ in selector.select(left_s):
                piece = os.read(key.fd, CHUNK)
                key.data.take(piece)
                if not piece:
                    selector.unregister(key.fileobj)
    process.wait(max(deadline - time.monotonic(), 0.0))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

"""This machine as a device: a temporary folder, real processes, the whole deploy path.

`local:` is this machine; `local:NAME` is a simulated device of that name on it, with a folder of its own, so that one
machine can stand for a fleet.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from edgekit.devices.transport import CommandResult, Sent, unheard
from edgekit.errors import DeviceError
from edgekit.progress import LoggedProgress, Progress

HERE = "local:"
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
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-local-")
        self.root = Path(self._folder.name)

    def run(self, argv: Sequence[str], *, timeout_s: float) -> CommandResult:
        """Run a process of its own group in the folder; the group is killed when the time is over."""
        start = time.monotonic()
        try:
            process = subprocess.Popen(
                argv,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as problem:
            raise DeviceError(f"local: cannot start {shlex.join(argv)}: {problem.strerror or problem}") from problem
        stdout, stderr = _communicate(process, argv, timeout_s)
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


def _communicate(process: subprocess.Popen[str], argv: Sequence[str], timeout_s: float) -> tuple[str, str]:
    try:
        return process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as problem:
        raise DeviceError(f"local: {shlex.join(argv)} was not done after {timeout_s:g} s") from problem
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

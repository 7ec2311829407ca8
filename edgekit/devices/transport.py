"""The way to a device: run a command there, bring a file there, fetch a file back."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgekit.errors import DeviceError
from edgekit.progress import Progress

Sent = Callable[[int], object]  # told how many bytes of a file went so far

_STDERR_LINES = 20


def unheard(_bytes: int) -> None:
    """For a file of which nobody wants to know how far it is."""


@dataclass(frozen=True)
class CommandResult:
    """How a command on a device ended."""

    argv: tuple[str, ...]
    exit_code: int  # negative: the signal that ended it
    stdout: str
    stderr: str
    elapsed_s: float


class Transport(Protocol):
    """Remote paths are relative to a folder on the device that belongs to this connection."""

    url: str  # "local:"
    progress: Progress  # shows what takes long; quiet until somebody sets another

    @property
    def python(self) -> str | None:
        """What starts Python 3 there; None: it has none."""
        ...

    def run(self, argv: Sequence[str], *, timeout_s: float) -> CommandResult:
        """Run a command in the device's folder. Raises DeviceError when it cannot start or is not done in time."""
        ...

    def push(self, local: Path, remote: str, sent: Sent = unheard) -> None:
        """Copy a file to the device. Raises DeviceError."""

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from the device. Raises DeviceError."""

    def close(self) -> None:
        """End the connection; a second close is harmless."""


@runtime_checkable
class Cuttable(Protocol):
    """A transport whose link can be cut on purpose, to see that a command goes on."""

    def drop_link(self) -> None:
        """Break the connection now; what runs on the device is not told."""


def describe_failure(result: CommandResult, url: str) -> str:
    """One line: argv, exit code and the last lines of stderr."""
    lines = [line.strip() for line in result.stderr.splitlines()[-_STDERR_LINES:] if line.strip()]
    return f"{url} {shlex.join(result.argv)}: exit code {result.exit_code}; stderr: {' | '.join(lines) or 'empty'}"


def checked(device: Transport, argv: Sequence[str], *, timeout_s: float) -> CommandResult:
    """Run a command that must succeed. Raises DeviceError otherwise."""
    result = device.run(argv, timeout_s=timeout_s)
    if result.exit_code != 0:
        raise DeviceError(describe_failure(result, device.url))
    return result

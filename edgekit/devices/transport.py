"""The way to a device: run a command there, bring a file there, fetch a file back."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgekit.errors import DeviceError
from edgekit.progress import Progress

log = logging.getLogger(__name__)

Sent = Callable[[int], object]  # told how many bytes of a file went so far
Heard = Callable[[str], object]  # told each line that a command prints, on either stream, while it runs

_STDERR_LINES = 20


def unheard(_: object) -> None:
    """For a file or a command of which nobody wants to know how far it is."""


def logged(line: str) -> None:
    """For what a program on a device prints while nobody else listens."""
    log.info("the device said: %s", line)


def line_of(url: str, line: str) -> str:
    """What is shown of a line that a program on a device printed."""
    return f"{url.removesuffix(':')}: {line}"


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
    listener: Heard  # told what the runtime and its engines print there; `logged` until somebody sets another

    @property
    def python(self) -> str | None:
        """What starts Python 3 there; None: it has none."""
        ...

    def run(self, argv: Sequence[str], *, timeout_s: float, heard: Heard = unheard) -> CommandResult:
        """Run a command in the device's folder. Raises DeviceError when it cannot start or is not done in time.

        `heard` is told every line once, in the order of its stream, as soon as it comes. What it raises ends the
        command.
        """
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


def checked(device: Transport, argv: Sequence[str], *, timeout_s: float, heard: Heard = unheard) -> CommandResult:
    """Run a command that must succeed. Raises DeviceError otherwise."""
    result = device.run(argv, timeout_s=timeout_s, heard=heard)
    if result.exit_code != 0:
        raise DeviceError(describe_failure(result, device.url))
    return result

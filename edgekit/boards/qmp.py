"""QEMU's monitor: JSON lines over a socket. (https://www.qemu.org/docs/master/interop/qmp-spec.html)"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any  # Any: JSON

from edgekit.errors import DeviceError

SOCKET = "qmp"


def ask(folder: Path, command: str, *, timeout_s: float, **arguments: object) -> Any:
    """Give one command to the QEMU whose socket is in `folder`; returns its answer. Raises DeviceError."""
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(timeout_s)
            _connect(link, folder)
            with link.makefile("rw", encoding="utf-8") as stream:
                stream.readline()  # QEMU's greeting
                _exchange(stream, {"execute": "qmp_capabilities"})
                return _exchange(stream, {"execute": command, "arguments": arguments})
    except (OSError, ValueError) as problem:
        raise DeviceError(f"{folder.name}: QEMU does not answer {command}: {problem}") from problem


def say(folder: Path, line: str, *, timeout_s: float) -> None:
    """A line for the monitor that people use, which has commands that QMP lacks: it says nothing when all is well."""
    answer = ask(folder, "human-monitor-command", timeout_s=timeout_s, **{"command-line": line})
    if answer.strip():
        raise DeviceError(f"{folder.name}: QEMU refused {line}: {' '.join(answer.split())}")


def _connect(link: socket.socket, folder: Path) -> None:
    """By way of the open folder: a socket's path may be no longer than 107 bytes."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        link.connect(f"/proc/self/fd/{handle}/{SOCKET}")
    finally:
        os.close(handle)


def _exchange(stream: Any, request: dict[str, object]) -> Any:
    stream.write(json.dumps(request) + "\n")
    stream.flush()
    while line := stream.readline():
        reply = json.loads(line)
        if "error" in reply:
            raise ValueError(reply["error"]["desc"])
        if "return" in reply:
            return reply["return"]
    raise ValueError("it hung up")

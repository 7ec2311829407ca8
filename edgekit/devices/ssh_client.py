"""OpenSSH's own binary, so that the user's ssh_config, jump hosts, agent and known hosts hold.

One connection is shared by all commands (ControlMaster). ssh says what went wrong in words and exits 255.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO
from urllib.parse import parse_qs, urlsplit

from edgekit.errors import (
    ConfigError,
    DeviceError,
    DeviceTimeoutError,
    HostKeyError,
    LinkError,
    OfflineError,
    UnauthorizedError,
    did_you_mean,
)

EXAMPLE = "ssh://user@host:port/folder?python=python3.11&config=ssh_config"
CONNECT_S, ALIVE_EVERY_S, ALIVE_TIMES = 10, 2, 3  # a link that is cut is noticed after six seconds
FAILED = 255  # ssh's exit code for its own failures

_GET = "install OpenSSH's client (Debian: apt-get install openssh-client)"
_SETTINGS = ("config", "python")
_NO_CONFIG = "none"  # ssh's own word
_FAULTS: Mapping[str, type[DeviceError]] = {  # words of ssh's stderr, the first that are there
    "Host key verification failed": HostKeyError,
    "REMOTE HOST IDENTIFICATION HAS CHANGED": HostKeyError,
    "Permission denied": UnauthorizedError,
    "Too many authentication failures": UnauthorizedError,
    "Could not resolve hostname": OfflineError,
    "Connection refused": OfflineError,
    "Connection timed out": OfflineError,
    "No route to host": OfflineError,
    "Network is unreachable": OfflineError,
}


@dataclass(frozen=True)
class Target:
    """What an ssh URL says."""

    url: str
    host: str  # or an alias of ssh_config
    user: str | None
    port: int | None
    folder: str  # on the device; relative to the home folder unless it begins with /
    python: str
    config: str | None  # an ssh_config instead of the user's


def parse_url(url: str) -> Target:
    """Raises ConfigError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise ConfigError(f"'{url}': {problem}, expected {EXAMPLE}") from problem
    if parts.scheme != "ssh" or not parts.hostname or parts.hostname.startswith("-"):
        raise ConfigError(f"'{url}' names no host, expected {EXAMPLE}")
    if parts.password is not None:
        raise ConfigError(f"'{parts.scheme}://{parts.hostname}' holds a password: use a key, and ssh-agent")
    settings = parse_qs(parts.query, keep_blank_values=True)
    for name in settings:
        if name not in _SETTINGS:
            raise ConfigError(f"'{url}' sets '{name}'{did_you_mean(name, _SETTINGS)}")
    folder = parts.path if len(parts.path) > 1 else ".edgekit"
    python, config = settings.get("python", ["python3"])[-1], settings.get("config", [None])[-1]
    if config not in (None, _NO_CONFIG) and not Path(config).is_file():
        raise ConfigError(f"'{url}' takes ssh's settings from {config}, which is no file")
    host = parts.netloc.rpartition("@")[2].rpartition(":")[0] if port is not None else parts.netloc.rpartition("@")[2]
    return Target(url, host.strip("[]"), parts.username, port, folder, python, config)


@dataclass
class Call:
    """A command that runs on the device."""

    stdout: IO[bytes]
    fault: DeviceError | None = None  # once it has ended: what to raise where its output does not do


class SshClient:
    """Commands over one shared connection. A second `close` is harmless."""

    def __init__(self, target: Target) -> None:
        if shutil.which("ssh") is None:
            raise DeviceError(f"{target.url}: there is no ssh here: {_GET}")
        self.target = target
        self._sockets = tempfile.TemporaryDirectory(prefix="edgekit-ssh-")

    def argv(self, remote: str, *more: str) -> list[str]:
        """The command line that runs `remote`, a line of shell, on the device."""
        target, control = self.target, Path(self._sockets.name, "control")
        return [
            *("ssh", "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S}"),
            *("-o", f"ServerAliveInterval={ALIVE_EVERY_S}", "-o", f"ServerAliveCountMax={ALIVE_TIMES}"),
            *("-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={control}"),
            *(("-F", target.config) if target.config else ()),
            *(("-l", target.user) if target.user else ()),
            *(("-p", str(target.port)) if target.port else ()),
            *more,
            *("--", target.host, remote),
        ]

    @contextmanager
    def calling(
        self, argv: Sequence[str], *, timeout_s: float, stdin: IO[bytes] | int = subprocess.DEVNULL
    ) -> Iterator[Call]:
        """A command in the device's folder, whose output is read inside of the context. It ends with it, or in time."""
        line = f"cd {shlex.quote(self.target.folder)} && exec {shlex.join(argv)}"
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(self.argv(line), stdin=stdin, stdout=subprocess.PIPE, stderr=errors) as process,
        ):
            assert process.stdout is not None  # it is a pipe
            call, timer = Call(process.stdout), Timer(max(timeout_s, 0.0), process.kill)
            timer.daemon = True  # wherever an interrupt comes, no session waits for a deadline that nobody needs
            try:
                timer.start()
                yield call
                process.wait()
            finally:
                timer.cancel()
                process.kill()
            errors.seek(0)
            call.fault = self.fault(process.returncode, errors.read())

    def shell(self, line: str, content: bytes, *, timeout_s: float) -> None:
        """Run a line of shell in the home folder, with `content` as its input. Raises DeviceError."""
        try:
            done = subprocess.run(self.argv(line), input=content, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as problem:
            raise DeviceTimeoutError(f"{self.target.url}: no answer after {timeout_s:g} s") from problem
        if done.returncode:
            raise self.fault(done.returncode, done.stderr)

    def fault(self, exit_code: int, stderr: bytes) -> DeviceError:
        """What an exit code and ssh's words mean."""
        said = " | ".join(line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip())
        kind = next((kind for words, kind in _FAULTS.items() if words in said), None)
        if exit_code == -signal.SIGKILL:
            return DeviceTimeoutError(f"{self.target.url}: no answer in time")
        if exit_code == FAILED:
            return (kind or LinkError)(f"{self.target.url}: {said or 'the connection broke'}{_advice(kind)}")
        return DeviceError(f"{self.target.url}: exit code {exit_code}; stderr: {said or 'empty'}")

    def disconnect(self) -> None:
        """End the shared connection, with every command that is told through it; the next one makes another."""
        if Path(self._sockets.name, "control").exists():
            subprocess.run(self.argv("", "-O", "exit"), capture_output=True, timeout=CONNECT_S, check=False)

    def close(self) -> None:
        """End the shared connection for good."""
        self.disconnect()
        self._sockets.cleanup()


def _advice(kind: type[DeviceError] | None) -> str:
    return {
        HostKeyError: "; if the board was set up anew, ssh-keygen -R its name, and connect once by hand",
        UnauthorizedError: "; ssh-copy-id your key, or name the user: ssh://user@host",
        OfflineError: "; is it switched on, and reachable from here?",
    }.get(kind or LinkError, "")

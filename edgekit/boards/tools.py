"""Programs of the host that make and run boards, and the one line that installs them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit.errors import ConfigError

QEMU = "qemu-system-aarch64"
_TOOLS: Mapping[str, str] = {  # program -> its Debian package
    QEMU: "qemu-system-arm",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "depmod": "kmod",
    "mkfs.ext4": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
_ADBD_TOOLS: Mapping[str, str] = {  # that build adbd
    "clang++": "clang",
    "ld.lld": "lld",
    "apt-get": "apt",
    "dpkg-source": "dpkg-dev",
}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"  # other distributions do not have it by themselves
_LINES = 5


def why_not(*, adbd: bool = False) -> str | None:
    """What is missing for virtual boards here, or for those with `adbd`, and the line that installs it."""
    wanted = {**_TOOLS, **(_ADBD_TOOLS if adbd else {})}
    missing = [tool for tool in wanted if find(tool) is None]
    packages = dict.fromkeys(wanted[tool] for tool in missing)
    if not Path(KEYRING).exists():
        missing.append(KEYRING)
        packages["debian-archive-keyring"] = "debian-archive-keyring"
    if not missing:
        return None
    return f"no {', '.join(missing)} here: sudo apt-get install --no-install-recommends {' '.join(packages)}"


def check_tools(*, adbd: bool = False) -> None:
    """Raises ConfigError unless everything is here."""
    reason = why_not(adbd=adbd)
    if reason is not None:
        raise ConfigError(f"virtual boards need more: {reason}")


def find(tool: str) -> str | None:
    """Where a program lies; some are in folders that an ordinary user's PATH leaves out."""
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def free_port(wanted: int = 0) -> int:
    """A TCP port of 127.0.0.1 where nobody listens: the wanted one if it can be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of its last use are still in its way
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(argv: Sequence[str | Path], *, timeout_s: float, what: str, cwd: Path | None = None) -> str:
    """Run a tool of the host; returns its stdout. Raises ConfigError with its last words."""
    words = [find(str(argv[0])) or str(argv[0]), *map(str, argv[1:])]
    try:
        done = subprocess.run(
            words, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=timeout_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as problem:
        raise ConfigError(f"{what}: {argv[0]} was not done after {timeout_s:g} s") from problem
    except OSError as problem:
        raise ConfigError(f"{what}: cannot start {argv[0]}: {problem.strerror}") from problem
    if done.returncode != 0:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-_LINES:])
        raise ConfigError(f"{what}: {argv[0]} ended with exit code {done.returncode}: {said or 'no word'}")
    return done.stdout

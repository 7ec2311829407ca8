"""A board from nothing: Debian's packages unpacked, no script of theirs run, and no need to be root.

The steps and their order come from depmod(8) and mkfs.ext4(8) ("-d").
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import get_args

from edgekit.boards import adbd, system
from edgekit.boards.debian import unpack
from edgekit.boards.folders import (
    ADB_PORT,
    DISK,
    FACTS,
    INITRD,
    KERNEL,
    KEY,
    KNOWN_HOSTS,
    Board,
    Facts,
    Scheme,
    boards_folder,
    check_name,
)  # fmt: skip
from edgekit.boards.initrd import write_initrd
from edgekit.boards.packages import check_wheels, install_packages
from edgekit.boards.presets import PRESETS
from edgekit.boards.tools import call, check_tools, free_port
from edgekit.devices.adb_client import find_adb
from edgekit.errors import ConfigError, did_you_mean
from edgekit.files import fresh_folder, publish, workspace
from edgekit.progress import LoggedProgress, Progress

MEMORY_MIB, DISK_MIB = 1024, 2048
LEAST_MEMORY_MIB, LEAST_DISK_MIB = 256, 1024

_DEBIAN = (
    *("base-files", "base-passwd", "bash", "busybox-static", "coreutils", "dash", "findutils", "grep", "gzip"),
    *("libc-bin", "libgomp1", "libstdc++6", "linux-image-cloud-arm64", "mawk", "openssh-server", "procps"),
    *("python3", "sed", "tar"),
)
_FOR_ADB = (*adbd.PACKAGES, "util-linux")  # with setsid, under which commands over adb run
_UNUSED = ("boot", "lib/modules", "usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt")
_TOOL_S = 300.0
_STEPS = 5


def create(
    name: str,
    *,
    preset: str = "plain",
    scheme: Scheme = "ssh",
    mirror: str | None = None,
    vendor_wheels: Path | None = None,
    memory_mib: int = MEMORY_MIB,
    disk_mib: int = DISK_MIB,
    root: Path | None = None,
    progress: Progress | None = None,
) -> Board:
    """Build board `name`: it appears whole, or not at all. It is not started.

    With the `scheme` "adb" it has AOSP's adbd beside its sshd, and its URL is `adb:127.0.0.1:PORT?python=python3`.
    `mirror` is a Debian mirror's URL (default: mmdebstrap's own). numpy and the engines come as aarch64 wheels from
    pip's index as the user has set it up, or from the folder `vendor_wheels` alone, in the versions of this machine.
    Raises ConfigError, OutputError, and DeviceError where there is no adb to reach it with.
    """
    _check(preset, scheme, memory_mib, disk_mib)
    if vendor_wheels is not None:
        check_wheels(vendor_wheels)
    check_tools(adbd=scheme == "adb")
    if scheme == "adb":
        find_adb(f"board '{name}'")
    root = root or boards_folder()
    target = root / check_name(name)
    if target.exists():
        raise ConfigError(f"there is a board '{name}': edgekit board delete {name}, or choose another name")
    with (
        workspace(target, resume=False, worth_keeping=FACTS) as work,
        (progress or LoggedProgress()).task(f"board {name}", _STEPS) as advance,
    ):
        tree, made = work / "tree", fresh_folder(work / "board")
        unpack(tree, (*_DEBIAN, *(_FOR_ADB if scheme == "adb" else ())), mirror)
        advance(1, "unpacked")
        packages = install_packages(tree, vendor_wheels)
        advance(1, "numpy and engines are in")
        _kernel(tree, made)
        _keys(tree, made, name)
        system.configure(tree, name, PRESETS[preset])
        if scheme == "adb":
            system.add_adbd(tree, adbd.find_adbd(mirror))
            (made / ADB_PORT).write_text(f"{free_port()}\n")
        advance(1, "configured")
        _disk(tree, made, disk_mib)
        advance(1, "its disk is made")
        facts = Facts(preset, datetime.now(timezone.utc).isoformat(timespec="seconds"), memory_mib, packages, scheme)
        (made / FACTS).write_text(json.dumps(dataclasses.asdict(facts), indent=2) + "\n")
        publish(made, target)
        advance(1, "done")
    return Board(target, facts)


def _check(preset: str, scheme: str, memory_mib: int, disk_mib: int) -> None:
    for what, word, known in (("preset", preset, tuple(PRESETS)), ("scheme", scheme, get_args(Scheme))):
        if word not in known:
            raise ConfigError(f"no {what} '{word}'{did_you_mean(word, known)}")
    for what, size, least in (("memory", memory_mib, LEAST_MEMORY_MIB), ("disk", disk_mib, LEAST_DISK_MIB)):
        if size < least:
            raise ConfigError(f"a board's {what} is {size} MiB, expected {least} or more")


def _kernel(tree: Path, made: Path) -> None:
    """Out of the tree: QEMU starts the kernel itself, and the initrd has the modules that are used."""
    (image,) = (tree / "boot").glob("vmlinuz-*")
    version = image.name.removeprefix("vmlinuz-")
    call(["depmod", "-b", tree, version], timeout_s=_TOOL_S, what="the kernel's modules")
    write_initrd(made / INITRD, tree, tree / "lib/modules" / version)
    shutil.move(image, made / KERNEL)
    for unused in _UNUSED:
        shutil.rmtree(tree / unused, ignore_errors=True)


def _keys(tree: Path, made: Path, name: str) -> None:
    """A host key, which is known from the first connection on, and a key to log in with."""
    host_key = tree / "etc/ssh/ssh_host_ed25519_key"
    for path in (host_key, made / KEY):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"edgekit-{name}", "-f", str(path)]
        call(argv, timeout_s=_TOOL_S, what="the board's keys")
    (made / KNOWN_HOSTS).write_text(f"{name} {host_key.with_suffix('.pub').read_text()}")
    home = tree / "root/.ssh"
    home.mkdir(mode=0o700)
    shutil.copy(made / f"{KEY}.pub", home / "authorized_keys")


def _disk(tree: Path, made: Path, disk_mib: int) -> None:
    raw = made.parent / "disk.raw"
    with raw.open("wb") as stream:
        stream.truncate(disk_mib << 20)
    argv = ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "root_owner=0:0", "-L", "root", "-d", str(tree), str(raw)]
    call(argv, timeout_s=_TOOL_S, what="the board's disk")
    call(["qemu-img", "convert", "-O", "qcow2", raw, made / DISK], timeout_s=_TOOL_S, what="the board's disk")

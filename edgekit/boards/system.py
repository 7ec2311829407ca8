"""The files that make unpacked packages a system: users, sshd, what runs at the start, and whom it claims to be."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgekit.boards.presets import MARKER, VIRTUAL, Preset

ADBD_PORT = 5555  # on the board's own network

_IDENTITY = "etc/edgekit-board"  # texts that lie over those of QEMU's device tree
_SSHD = """HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /root/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
LogLevel ERROR
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""
_INITTAB = """::sysinit:/sbin/edgekit-boot
::respawn:/usr/sbin/sshd -D -e
::shutdown:/bin/busybox mount -o remount,ro /
"""
_ADBD = f"::respawn:/usr/bin/env ADBD_NETWORK=1 ADBD_PORT={ADBD_PORT} ANDROID_LOG_TAGS=*:e /usr/sbin/adbd\n"
_BOOT = """#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts devpts /dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$b mount -t tmpfs -o mode=755 tmpfs /run
$b mkdir -p /run/sshd
$b hostname -F /etc/hostname
$b ifconfig lo 127.0.0.1 up
$b ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
$b route add default gw 10.0.2.2
for text in model compatible; do
  [ ! -e /{identity}/$text ] || $b mount -o bind /{identity}/$text /sys/firmware/devicetree/base/$text
done
echo "edgekit board: up after $($b cut -d. -f1 /proc/uptime) s" > /dev/console
"""
_MARKER = (
    "A virtual board made by edgekit. It imitates an identity; what it measures says nothing about a real board.\n"
)


def configure(tree: Path, name: str, preset: Preset) -> None:
    """Write them into an unpacked system."""
    _users(tree)
    for link, target in (("usr/bin/awk", "mawk"), ("bin/sh", "dash"), ("init", "bin/busybox")):
        path = tree / link
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    _write(tree, "etc/hostname", f"{name}\n")
    _write(tree, "etc/hosts", f"127.0.0.1 localhost {name}\n")
    _write(tree, "etc/ssh/sshd_config", _SSHD)
    _write(tree, "etc/inittab", _INITTAB)
    _write(tree, "sbin/edgekit-boot", _BOOT.format(identity=_IDENTITY), mode=0o755)
    _write(tree, MARKER, _MARKER)
    _identity(tree, preset)


def add_adbd(tree: Path, adbd: Path) -> None:
    """Have a configured system run it."""
    shutil.copy(adbd, tree / "usr/sbin/adbd")
    _write(tree, "etc/inittab", _INITTAB + _ADBD)


def _users(tree: Path) -> None:
    masters = tree / "usr/share/base-passwd"
    shutil.copy(masters / "group.master", tree / "etc/group")
    root, *others = (masters / "passwd.master").read_text().splitlines()
    lines = ["root:x:" + root.split(":", 2)[2], *others, "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin"]
    _write(tree, "etc/passwd", "\n".join(lines) + "\n")
    _write(tree, "etc/shadow", "root:*:19000:0:99999:7:::\n", mode=0o600)


def _identity(tree: Path, preset: Preset) -> None:
    if preset.model is not None:  # both end with NUL, as a device tree's texts do
        _write(tree, f"{_IDENTITY}/model", f"{preset.model}\0")
        _write(tree, f"{_IDENTITY}/compatible", "".join(f"{word}\0" for word in (*preset.compatible, VIRTUAL)))
    for path, text in preset.files.items():
        _write(tree, path, text)


def _write(tree: Path, path: str, text: str, *, mode: int = 0o644) -> None:
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)

"""The board's first file system: busybox and the drivers of QEMU's disk and network."""

from __future__ import annotations

import gzip
import stat
from pathlib import Path

_DRIVERS = ("virtio_pci", "virtio_blk", "virtio_net", "virtio-rng")
_FOLDERS = ("bin", "dev", "modules", "proc", "root")
_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
{insert}
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /root || exec /bin/busybox poweroff -f
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /bin/busybox init
"""


def write_initrd(path: Path, root: Path, modules: Path) -> None:
    """From an unpacked system in `root` and its folder of kernel modules, with their modules.dep."""
    drivers = _in_order((modules / "modules.dep").read_text())
    insert = "\n".join(f"/bin/busybox insmod /modules/{Path(driver).name}" for driver in drivers)
    files = {"init": _INIT.format(insert=insert).encode(), "bin/busybox": (root / "bin/busybox").read_bytes()}
    files |= {f"modules/{Path(driver).name}": (modules / driver).read_bytes() for driver in drivers}
    entries = [_entry(name, stat.S_IFDIR | 0o755, b"") for name in _FOLDERS]
    entries += [_entry(name, stat.S_IFREG | 0o755, content) for name, content in files.items()]
    path.write_bytes(gzip.compress(b"".join([*entries, _entry("TRAILER!!!", 0, b"")]), mtime=0))


def _in_order(dependencies: str) -> list[str]:
    """The drivers' files, each after those that it needs, from the text of modules.dep."""
    needs = {}
    for line in dependencies.splitlines():
        module, _, others = line.partition(":")
        needs[module] = others.split()
    order: list[str] = []
    for name in _DRIVERS:
        module = next(path for path in needs if Path(path).name == f"{name}.ko")
        order += [each for each in [*reversed(needs[module]), module] if each not in order]
    return order


def _entry(name: str, mode: int, content: bytes) -> bytes:
    """One member of a cpio archive in the "newc" format, which the kernel unpacks.

    Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    encoded = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + encoded
    return _padded(head) + _padded(content)


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)

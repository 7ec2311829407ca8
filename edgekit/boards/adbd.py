"""AOSP's own adbd for Linux, built from the source of Debian's adb package, which ships the client alone.

Two lines of the source are changed to ask the environment: with ADBD_NETWORK it listens on every interface, else on
loopback alone; with ADBD_SECURE it lets in known keys alone, which a phone reads from a system property.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edgekit.boards.debian import unpack
from edgekit.boards.tools import call
from edgekit.errors import ConfigError
from edgekit.files import atomic
from edgekit.places import cache_folder

MACHINE = "aarch64"  # of boards
PACKAGES = ("android-libbase", "android-libcutils", "android-liblog", "android-libboringssl")  # what it runs with
NEEDS = (*(f"{name}-dev" for name in PACKAGES), "libcap-dev")  # and what it is built with

_TOOLCHAIN = ("libc6-dev", "libgcc-12-dev", "libstdc++-12-dev")  # which this machine's own clang brings along
_EDITS: Mapping[str, tuple[str, str]] = {  # file of adb's source -> what stands there, what is built
    "socket_spec.cpp": (
        "network_inaddr_any_server(port, SOCK_STREAM, error)",
        'getenv("ADBD_NETWORK") ? network_inaddr_any_server(port, SOCK_STREAM, error)'
        " : network_loopback_server(port, SOCK_STREAM, error, true)",
    ),
    "daemon/main.cpp": (
        'auth_required = android::base::GetBoolProperty("ro.adb.secure", false);\n#elif defined(__ANDROID__)',
        'auth_required = getenv("ADBD_SECURE") != nullptr;\n#elif defined(__ANDROID__)',
    ),
}
# fs_config() says who owns the folders of a phone's system; a glibc build has no such table.
_SHIM = """#pragma once
#ifdef __cplusplus
#include <atomic>
#include <optional>
#include <stdint.h>
static inline void fs_config(const char*, int, const char*, unsigned*, unsigned*, unsigned*, uint64_t*) {}
#endif
"""
_DEFINES = (
    *("_GNU_SOURCE", "ADB_HOST=0", "ALLOW_ADBD_ROOT=1", "ALLOW_ADBD_NO_AUTH=1", 'PLATFORM_TOOLS_VERSION="29.0.6"'),
    *('ADB_VERSION="29.0.6-adbd-linux"', "ANDROID_BASE_UNIQUE_FD_DISABLE_IMPLICIT_CONVERSION=1"),
)
_CORE = "system/core"
_AUTH = "frameworks/native/libs/adbd_auth"
_INCLUDES = (
    *(f"{_CORE}/{name}" for name in ("adb", "adb/daemon/include", "adb/adbconnection/include", "base/include")),
    *(f"{_CORE}/{name}/include" for name in ("libcrypto_utils", "libcutils", "liblog", "diagnose_usb", "libasyncio")),
    *(f"{_CORE}/include", f"{_AUTH}/include"),
)
_SOURCES = (
    *(
        f"{_CORE}/adb/{name}.cpp"
        for name in (
            *("adb", "adb_io", "adb_listeners", "adb_trace", "adb_unique_fd", "adb_utils", "fdevent/fdevent"),
            *("fdevent/fdevent_poll", "fdevent/fdevent_epoll", "services", "sockets", "socket_spec", "sysdeps/errno"),
            *("transport", "transport_fd", "transport_local", "transport_usb", "types", "sysdeps_unix"),
            *("sysdeps/posix/network", "daemon/auth", "daemon/jdwp_service", "daemon/usb_dummy"),
            *("daemon/file_sync_service", "daemon/services", "daemon/shell_service", "daemon/main"),
            *("shell_service_protocol", "adbconnection/adbconnection_server"),
        )
    ),
    *(f"{_CORE}/diagnose_usb/diagnose_usb.cpp", f"{_CORE}/libasyncio/AsyncIO.cpp", f"{_AUTH}/adbd_auth.cpp"),
    f"{_CORE}/libcrypto_utils/android_pubkey.c",
)
_LIBRARIES = ("base", "cutils", "log", "crypto", "cap", "resolv", "util", "pthread")
_FETCH_S, _COMPILE_S = 600.0, 300.0
_WHAT = "adbd for boards"


@dataclass(frozen=True)
class _Target:
    """A system to build for."""

    system: Path
    triplet: str  # "aarch64-linux-gnu"

    @property
    def flags(self) -> tuple[str, ...]:
        return (f"--target={self.triplet}", f"--sysroot={self.system}")

    @property
    def libraries(self) -> str:
        """Where Debian puts Android's, from the system's root."""
        return f"usr/lib/{self.triplet}/android"


def find_adbd(mirror: str | None = None) -> Path:
    """adbd for boards, built when it is first asked for, which takes a minute and 76 MB of source.

    `mirror` is a Debian mirror's URL with its source packages (default: mmdebstrap's own).
    Raises ConfigError, OutputError.
    """
    made = cache_folder("adbd") / f"{MACHINE}-{recipe()}"
    if not made.exists():
        with tempfile.TemporaryDirectory(prefix="edgekit-adbd-") as scratch:
            system = Path(scratch, "system")
            unpack(system, (*NEEDS, *_TOOLCHAIN), mirror)
            build_adbd(system, MACHINE, made)
    return made


def recipe() -> str:
    """What a built adbd depends on."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def build_adbd(system: Path, machine: str, output: Path) -> None:
    """Compile it for `machine` ("aarch64") with headers, libraries and apt's sources of `system`, which has `NEEDS`.

    Raises ConfigError, OutputError.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-adbd-") as scratch, atomic(output, mode=0o777) as temporary:
        folder = Path(scratch)
        source = _fetch_source(system / "etc/apt", folder)
        for name, (old, new) in _EDITS.items():
            _edit(source / _CORE / "adb" / name, old, new)
        (source / "shim.h").write_text(_SHIM)
        target = _Target(system, f"{machine}-linux-gnu")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda name: _compile(source, name, target), _SOURCES))
        _link(objects, target, temporary)


def _fetch_source(apt: Path, folder: Path) -> Path:
    """Debian's source package, by lists made of those in `apt`: the settings of this machine's apt stay as they are."""
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True)
    for path in (apt / "sources.list.d").glob("*.sources"):
        (folder / "parts" / path.name).write_text(path.read_text().replace("Types: deb\n", "Types: deb-src\n"))
    listed = apt / "sources.list"
    lines = listed.read_text().splitlines() if listed.exists() else []
    (folder / "sources.list").write_text("".join(f"deb-src{line[3:]}\n" for line in lines if line.startswith("deb ")))
    places = {"Etc::sourcelist": "sources.list", "Etc::sourceparts": "parts", "State::lists": "lists", "Cache": "cache"}
    options = [f"-oDir::{name}={folder / place}" for name, place in places.items()]
    for verb in (("update",), ("source", "adb")):
        call(["apt-get", *options, "-qq", *verb], cwd=folder, timeout_s=_FETCH_S, what=f"the source of {_WHAT}")
    return next(folder.glob("android-platform-tools-*"))


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        raise ConfigError(f"{_WHAT}: {path.name} is another than that of Debian 12's adb 29.0.6: it has no {old!r}")
    path.write_text(text.replace(old, new))


def _compile(source: Path, name: str, target: _Target) -> str:
    compiler = ["clang"] if name.endswith(".c") else ["clang++", "-std=gnu++2a"]
    defines = [f"-D{define}" for define in _DEFINES]
    includes = [f"-I{include}" for include in (*_INCLUDES, target.system / "usr/include/android")]
    flags = ["-O2", "-fPIC", "-w", "-include", "shim.h", *defines, *includes]
    argv = [*compiler, *target.flags, *flags, "-c", "-o", f"{name}.o", name]
    call(argv, cwd=source, timeout_s=_COMPILE_S, what=_WHAT)
    return str(source / f"{name}.o")


def _link(objects: list[str], target: _Target, made: Path) -> None:
    """By lld, which knows every processor."""
    where = [f"-L{target.system / target.libraries}", f"-Wl,-rpath,/{target.libraries}"]
    names = [f"-l{name}" for name in _LIBRARIES]
    argv = ["clang++", *target.flags, "-fuse-ld=lld", "-s", "-o", str(made), *objects, *where, *names]
    call(argv, timeout_s=_COMPILE_S, what=_WHAT)

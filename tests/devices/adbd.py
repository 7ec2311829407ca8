"""Builds AOSP's own adbd for this Linux, from the source of Debian's adb package, as a phone to connect to.

    python3 tests/devices/adbd.py          about a minute; needs what NEEDS names, and the network for 76 MB of source

The result stays in `.cache/adbd` of the repository, which git ignores; tests without it skip. Two lines differ from the
source: it listens on the loopback interface alone, and ADBD_SECURE in its environment says whether a key must be known,
which a phone reads from a system property.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "adbd"
ADBD = CACHE / "adbd"
TOOLS = CACHE / "tools"  # what a phone has: mksh and toybox
NEEDS = (
    "clang dpkg-dev libcap-dev android-libbase-dev android-libcutils-dev android-liblog-dev android-libboringssl-dev"
)
GET = f"apt-get install adb {NEEDS} && python3 tests/devices/adbd.py"

_LIBRARIES = Path("/usr/lib/x86_64-linux-gnu/android")
_EDITS = {  # file of adb's source -> what stands there -> what is built
    "socket_spec.cpp": {
        "network_inaddr_any_server(port, SOCK_STREAM, error)": "network_loopback_server(port, SOCK_STREAM, error, true)"
    },
    "daemon/main.cpp": {
        'auth_required = android::base::GetBoolProperty("ro.adb.secure", false);\n#elif defined(__ANDROID__)': (
            'auth_required = getenv("ADBD_SECURE") != nullptr;\n#elif defined(__ANDROID__)'
        )
    },
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
    *(f"{_CORE}/include", f"{_AUTH}/include", "/usr/include/android"),
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


def main() -> int:
    """Build it, unless it is there."""
    if not ADBD.exists():
        with tempfile.TemporaryDirectory(prefix="edgekit-adbd-") as scratch:
            folder = Path(scratch)
            _unpack_tools(folder)
            source = _fetch_source(folder)
            for name, edits in _EDITS.items():
                _edit(source / _CORE / "adb" / name, edits)
            (folder / "shim.h").write_text(_SHIM)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = list(pool.map(lambda name: _compile(source, name, folder), _SOURCES))
            _link(objects, folder / "adbd")
            CACHE.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "adbd", ADBD.with_suffix(".part"))
            ADBD.with_suffix(".part").replace(ADBD)
    sys.stdout.write(f"{ADBD}\n")
    return 0


def _fetch_source(folder: Path) -> Path:
    """Debian's source package, by lists of our own: the system's settings of apt stay as they are."""
    parts = folder / "sources"
    for name in ("lists/partial", "cache/archives/partial", "sources"):
        (folder / name).mkdir(parents=True)
    for path in Path("/etc/apt/sources.list.d").glob("*.sources"):
        (parts / path.name).write_text(path.read_text().replace("Types: deb\n", "Types: deb-src\n"))
    listed = Path("/etc/apt/sources.list")
    lines = listed.read_text().splitlines() if listed.exists() else []
    (folder / "sources.list").write_text("".join(f"deb-src{line[3:]}\n" for line in lines if line.startswith("deb ")))
    settings = {
        "Etc::sourcelist": "sources.list",
        "Etc::sourceparts": "sources",
        "State::lists": "lists",
        "Cache": "cache",
    }
    options = [f"-oDir::{name}={folder / place}" for name, place in settings.items()]
    _run(["apt-get", *options, "-qq", "update"], folder)
    _run(["apt-get", *options, "-qq", "source", "adb"], folder)
    return next(folder.glob("android-platform-tools-*"))


def _unpack_tools(folder: Path) -> None:
    """mksh and toybox, which are a phone's sh and its commands; unpacked, not installed."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "-qq", "download", "mksh", "toybox"], folder)
    for package in folder.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(TOOLS)], folder)


def _edit(path: Path, edits: dict[str, str]) -> None:
    text = path.read_text()
    for old, new in edits.items():
        if old not in text:
            raise SystemExit(f"{path.name} is another than that of adb 29.0.6: it has no {old!r}")
        text = text.replace(old, new)
    path.write_text(text)


def _compile(source: Path, name: str, folder: Path) -> str:
    made = folder / (name.replace("/", "_") + ".o")
    compiler = ["clang", "-O2"] if name.endswith(".c") else ["clang++", "-std=gnu++2a", "-O2"]
    defines = [f"-D{define}" for define in _DEFINES]
    includes = [f"-I{include}" for include in _INCLUDES]
    _run(
        [
            *compiler,
            "-fPIC",
            "-w",
            "-include",
            str(folder / "shim.h"),
            *defines,
            *includes,
            "-c",
            "-o",
            str(made),
            name,
        ],
        source,
    )
    return str(made)


def _link(objects: list[str], made: Path) -> None:
    where = [f"-L{_LIBRARIES}", f"-Wl,-rpath,{_LIBRARIES}"]
    libraries = [f"-l{name}" for name in ("base", "cutils", "log", "crypto", "cap", "resolv", "util", "pthread")]
    _run(["clang++", "-o", str(made), *objects, *where, *libraries], made.parent)


def _run(argv: list[str], folder: Path) -> None:
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv[:6])} …: exit code {done.returncode}: {done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())

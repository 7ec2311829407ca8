"""A stand-in for a phone: AOSP's own adbd on loopback, in a root of its own with mksh and toybox, and no Python.

Its commands run on this machine's processor, and every test has an adb server of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.devices import adbd
from tests.devices.sshd import DEADLINE_S, free_port

PORT = "ANDROID_ADB_SERVER_PORT"
FOLDER = "data/local/tmp/edgekit"
_MOUNTS = "mount -t proc proc {root}/proc && mount --rbind /sys {root}/sys && mount --rbind /dev {root}/dev"


def why_not() -> str | None:
    """What is missing for a phone here, and how to get it."""
    if not adbd.ADBD.exists() or shutil.which("adb") is None:
        return f"no adbd here: {adbd.GET}"
    return None if os.geteuid() == 0 else "adbd needs a root of its own: run the tests as root"


@dataclass
class Phone:
    """The adbd, and what is in its root."""

    root: Path
    port: int
    secure: bool = False  # whether it asks for a key
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        """The device's folder."""
        return self.root / FOLDER

    def url(self, **settings: str) -> str:
        more = "&".join(f"{name}={value}" for name, value in settings.items())
        return f"adb:{self.serial}{'?' if more else ''}{more}"

    def start(self) -> None:
        """Mounts live in a namespace that ends with its processes."""
        line = f"{_MOUNTS.format(root=self.root)} && exec chroot {self.root} /system/bin/adbd"
        secure = {"ADBD_SECURE": "1"} if self.secure else {}
        environment = {"PATH": "/system/bin:/usr/sbin:/usr/bin:/sbin:/bin", "ADBD_PORT": str(self.port), **secure}
        with (self.root / "adbd.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", line],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        deadline = time.monotonic() + DEADLINE_S
        while not self._listens():
            assert time.monotonic() < deadline, (self.root / "adbd.log").read_text()
            time.sleep(0.02)

    def cut(self) -> None:
        """The link breaks: adbd dies with its connections, and is there again."""
        self._kill_adbd()
        self.start()

    def freeze(self) -> None:
        """adbd stops answering, and nobody is told."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """With all that runs there."""
        self._kill_adbd()
        for pid, _ in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[tuple[int, str]]:
        """What runs in its root, by process id and command line."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "root").readlink() == self.root:
                    found.append((int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
        return found

    def runs(self, word: str) -> bool:
        return any(word in command for _, command in self.processes())

    def _kill_adbd(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.root / "adbd.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def make_phone(root: Path, *, secure: bool = False) -> Phone:
    """Its root; it is not started."""
    for name in ("system/bin", "data/local/tmp", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("system/bin")
    bin_ = root / "system/bin"
    shutil.copy(adbd.TOOLS / "bin/mksh", bin_ / "sh")
    _bring_libraries(bin_ / "sh", root)
    for path in (adbd.ADBD, adbd.TOOLS / "bin/toybox"):
        shutil.copy(path, bin_)
        _bring_libraries(path, root)
    listed = subprocess.run([adbd.TOOLS / "bin/toybox"], capture_output=True, text=True, check=True).stdout
    for name in set(listed.split()) - {"sh", "toybox"}:
        (bin_ / name).symlink_to("toybox")
    return Phone(root.resolve(), free_port(), secure)


@contextmanager
def adb_server(folder: Path) -> Iterator[None]:
    """An adb server and a key of our own, which is in `folder`/.android: nobody else's devices are seen."""
    before, port = os.environ.get(PORT), str(free_port())
    os.environ[PORT] = port
    _adb("start-server", HOME=str(folder))
    try:
        yield
    finally:
        _adb("kill-server", ANDROID_ADB_SERVER_PORT=port)
        if before is None:
            del os.environ[PORT]
        else:
            os.environ[PORT] = before


def _adb(verb: str, **environment: str) -> None:
    subprocess.run(
        ["adb", verb], env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def _bring_libraries(program: Path, root: Path) -> None:
    """What the dynamic loader would take here, at the same places there."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for word in said.split():
        if word.startswith("/"):
            there = root / word[1:]
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, there)

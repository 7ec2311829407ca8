"""A virtual board for the tests, one of each scheme: made once, kept in the user's cache, and copied by each run.

It is made anew when the code that makes boards, or an engine's version, changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from edgekit import boards
from edgekit.boards import Board, adbd, creating, debian, initrd, packages, presets, system, tools
from edgekit.boards.folders import Scheme
from edgekit.devices import deploy, opened_device
from tests.tiny_models import pack

NAME, FRESH = "orin", "fresh"
_ROOT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "edgekit", "test-boards")


def why_not(scheme: Scheme) -> str | None:
    reason = tools.why_not(adbd=scheme == "adb")
    if reason is None and scheme == "adb" and shutil.which("adb") is None:
        return "no adb here: sudo apt-get install adb"
    return reason


def recipe() -> str:
    """What a kept board depends on."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for module in (adbd, creating, debian, initrd, packages, presets, system):
        digest.update(Path(module.__file__).read_bytes())
    digest.update(repr([metadata.version(name) for name in packages.WANTED]).encode())
    return digest.hexdigest()[:12]


@contextmanager
def kept(scheme: Scheme) -> Iterator[Path]:
    """A folder with `boards`, which has a board with a snapshot, and `wheels`, which it was made of."""
    root = _ROOT / scheme
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # another worker may make it
        folder = root / recipe()
        if not (folder / "done").exists():
            for old in root.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            _make(folder, scheme)
            (folder / "done").touch()
        yield folder


def borrow(folder: Path, into: Path) -> Board:
    """A copy of the kept board, running; it is the caller's to hurt and to stop."""
    shutil.copytree(folder / "boards" / NAME, into / NAME)
    board = boards.find_board(NAME, into)
    boards.restore(board, FRESH)
    return board


def _make(folder: Path, scheme: Scheme) -> None:
    wheels, scratch = folder / "wheels", folder / "scratch"
    _download(wheels)
    board = boards.create(NAME, preset="jetson-orin-nano", scheme=scheme, vendor_wheels=wheels, root=folder / "boards")
    boards.start(board)
    try:
        with opened_device(board.url) as device:  # so that what the tests import is in its memory
            deploy(pack(scratch), device).golden(every=True)
            device.run(["rm", "-rf", "edgekit"], timeout_s=60)
        boards.snapshot(board, FRESH)
    finally:
        boards.stop(board)


def _download(wheels: Path) -> None:
    wanted = [f"{name}=={metadata.version(name)}" for name in packages.WANTED]
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 27, 28)]
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version=3.11"]
    subprocess.run([*argv, *platforms, "-d", wheels, *wanted], check=True, capture_output=True, timeout=600)

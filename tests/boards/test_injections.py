"""Faults at random moments, on an sshd and on the virtual board; test_installing.py kills 30 installers here.

Whatever happens: nothing hangs past its deadline, nothing that was there is lost, and what has its final name is whole.
The moments are drawn anew in each run; the seed is printed.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit import boards
from edgekit.boards import Board
from edgekit.devices import Transport, deploy, opened_device
from edgekit.devices.installing import install
from edgekit.devices.transport import checked
from edgekit.errors import DeviceError
from tests.boards.keeping import FRESH
from tests.boards.whole import look
from tests.devices.sshd import Board as Sshd
from tests.devices.sshd import served

pytestmark = pytest.mark.slow

ON_SSH, ON_BOARD = 28, 12  # injections
DEADLINE_S = 240.0  # for one installation, hurt or not
SEED = time.time_ns()

Hurt = Callable[[], None]


@pytest.fixture(scope="module")
def chance() -> random.Random:
    sys.stdout.write(f"seed {SEED}\n")
    return random.Random(SEED)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with served(tmp_path) as own:
        yield own


def attempt(url: str, bundle: Path) -> Exception | None:
    """Install a bundle; None, or the trouble with the device. Any other error is a bug, and raised."""
    try:
        with opened_device(url) as device:
            install(deploy(bundle, device))
    except DeviceError as problem:
        return problem
    return None


def inject(url: str, bundle: Path, after_s: float, hurt: Hurt) -> Exception | None:
    """Install, and hurt the device meanwhile; the installation ends within its deadline."""
    ended: list[Exception | None] = []
    thread = threading.Thread(target=lambda: ended.append(attempt(url, bundle)), daemon=True)
    start = time.monotonic()
    thread.start()
    thread.join(after_s)
    hurt()
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), f"it hangs for {time.monotonic() - start:.0f} s"
    assert ended, "it ended with an error that is no trouble of the device"
    return ended[0]


def current_is_one_of(device: Transport, before: str | None, bundles: list[Path]) -> str:
    """Nothing was lost, and nothing has its final name before it is whole."""
    now = look(device, bundles)
    assert now is not None, f"{before} was current, and now there is none"
    return now


def test_over_ssh(sshd: Sshd, versions: list[Path], chance: random.Random) -> None:
    url = sshd.url(python=sys.executable)
    assert attempt(url, versions[0]) is None
    for number in range(ON_SSH):
        with opened_device(url) as device:
            before = look(device, versions)
            checked(device, ["rm", "-rf", "edgekit"], timeout_s=60)  # so that all is pushed again
        kind = chance.choice(("cut", "cuts", "stopped"))
        failed = inject(
            url, versions[number % 2], chance.uniform(0, 6), lambda kind=kind: hurt_sshd(sshd, kind, chance)
        )
        assert failed is None or kind != "cut", f"one cut is survived: {failed}"
        with opened_device(url) as device:
            current_is_one_of(device, before, versions)


def hurt_sshd(sshd: Sshd, kind: str, chance: random.Random) -> None:
    for _ in range(chance.randint(2, 5) if kind == "cuts" else 1):
        if kind == "stopped":
            sshd.stop()
            time.sleep(chance.uniform(0, 3))
            sshd.start()
        else:
            sshd.cut()
            time.sleep(chance.uniform(0, 0.5))


def test_on_the_virtual_board(board: Board, versions: list[Path], chance: random.Random) -> None:
    boards.restore(board, FRESH)
    assert attempt(board.url, versions[0]) is None
    for number in range(ON_BOARD):
        with opened_device(board.url) as device:
            before = look(device, versions)
            checked(device, ["rm", "-rf", "edgekit"], timeout_s=60)
        kind = ("power", "network")[number % 2]
        inject(
            board.url,
            versions[number // 2 % 2],
            chance.uniform(0, 12),
            lambda kind=kind: hurt_board(board, kind, chance),
        )
        boards.set_link(board, up=True) if board.state == "running" else boards.start(board)
        with opened_device(board.url) as device:
            current_is_one_of(device, before, versions)


def hurt_board(board: Board, kind: str, chance: random.Random) -> None:
    if kind == "power":
        boards.power_cut(board)
    else:
        boards.set_link(board, up=False)
        time.sleep(chance.uniform(0, 15))
        boards.set_link(board, up=True)

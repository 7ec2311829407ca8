"""Random faults while files are pushed over adb: nothing hangs past its deadline, and no name ever has other bytes."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from edgekit.devices.adb import AdbTransport
from edgekit.devices.pushing import push_by_content
from edgekit.errors import DeviceError
from edgekit.files import sha256_file
from tests.devices.phone import Phone

INJECTIONS = 50
FILE_MIB = 16
LONGEST_S = 60.0  # four attempts at the deadlines below, and what a busy machine adds


@pytest.mark.slow
def test_fifty_random_faults(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.devices.adb_client.CALL_S", 1.5)
    monkeypatch.setattr("edgekit.devices.adb.PIECE_S", 1.5)
    chance, whole = random.Random(0), 0
    for number in range(INJECTIONS):
        source = tmp_path / f"file{number}"
        source.write_bytes(os.urandom(FILE_MIB << 20))
        device, fault = AdbTransport(phone.url()), chance.choice([phone.cut, phone.freeze, phone.stop])
        timer = threading.Timer(chance.uniform(0.0, 1.0), fault)
        timer.start()
        start = time.monotonic()
        try:
            push_by_content(device, source)
        except DeviceError:
            pass
        else:
            whole += 1
        assert time.monotonic() - start < LONGEST_S
        timer.join()
        assert all(sha256_file(path) == sha256_file(source) for path in phone.home.rglob(source.name) if path.is_file())
        phone.stop()
        phone.start()
        arrived = push_by_content(AdbTransport(phone.url()), source)
        assert sha256_file(phone.home / arrived) == sha256_file(source)
        named = [path for path in phone.home.rglob(source.name) if path.is_file()]
        assert named == [phone.home / arrived]
        (phone.home / arrived).unlink()
        source.unlink()
    assert whole >= 1

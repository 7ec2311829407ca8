from __future__ import annotations

import pytest

from edgekit.devices import open_device, opened_device
from edgekit.devices.local import LocalTransport
from edgekit.errors import ConfigError, DeviceError


def test_this_machine() -> None:
    with opened_device("local:") as device:
        assert isinstance(device, LocalTransport)
        root = device.root
    assert not root.exists()


@pytest.mark.parametrize("url", ["ssh://me@board:22", "adb:R58M"])
def test_ways_that_are_not_there_yet(url: str) -> None:
    with pytest.raises(DeviceError, match=r"does not speak (ssh|adb) yet; use local:") as caught:
        open_device(url)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("url", ["", "local", "local:x", "usb:1", "ssh"])
def test_no_device_url(url: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a device URL; (did you mean 'local:'|known: adb:SERIAL, local:)"):
        open_device(url)

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


def test_a_way_that_is_not_there_yet() -> None:
    with pytest.raises(DeviceError, match="does not speak adb yet; use local:") as caught:
        open_device("adb:R58M")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("url", ["", "local", "local:x", "usb:1", "ssh"])
def test_no_device_url(url: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a device URL; (did you mean 'local:'|known: adb:SERIAL, local:)"):
        open_device(url)

from __future__ import annotations

import pytest

from edgekit.devices import open_device, opened_device
from edgekit.devices.local import LocalTransport
from edgekit.errors import ConfigError


def test_this_machine() -> None:
    with opened_device("local:") as device:
        assert isinstance(device, LocalTransport)
        root = device.root
    assert not root.exists()


@pytest.mark.parametrize("url", ["", "local", "local:/x", "local:a b", "usb:1", "ssh"])
def test_no_device_url(url: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a device URL; (did you mean 'local:'|known: adb:SERIAL, local:)"):
        open_device(url)

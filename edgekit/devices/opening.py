"""From a device URL to a transport."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgekit.devices.adb import AdbTransport
from edgekit.devices.local import HERE, LocalTransport, is_local
from edgekit.devices.ssh import SshTransport
from edgekit.devices.transport import Transport
from edgekit.errors import ConfigError, did_you_mean

LOCAL = HERE
_EXAMPLES = ("local:", "ssh://user@host:port", "adb:SERIAL")


def check_device(url: str) -> None:
    """See that there is a way to a device. Raises as `open_device`."""
    with opened_device(url):
        pass


@contextmanager
def opened_device(url: str) -> Iterator[Transport]:
    """`open_device`, closed at the end."""
    device = open_device(url)
    try:
        yield device
    finally:
        device.close()


def open_device(url: str) -> Transport:
    """Connect to a device.

    Raises DeviceError when there is no way to it, ConfigError when `url` is not a device URL.
    """
    if is_local(url):
        return LocalTransport(url)
    scheme, colon, _ = url.partition(":")
    if colon and scheme == "ssh":
        return SshTransport(url)
    if colon and scheme == "adb":
        return AdbTransport(url)
    raise ConfigError(f"'{url}' is not a device URL{did_you_mean(url, _EXAMPLES)}")

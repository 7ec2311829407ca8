"""From a device URL to a transport."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgekit.devices.local import LocalTransport
from edgekit.devices.ssh import SshTransport
from edgekit.devices.transport import Transport
from edgekit.errors import ConfigError, DeviceError, did_you_mean

_LATER = ("adb",)
_EXAMPLES = ("local:", "ssh://user@host:port", "adb:SERIAL")


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
    if url == LocalTransport.url:
        return LocalTransport()
    scheme, colon, _ = url.partition(":")
    if colon and scheme == "ssh":
        return SshTransport(url)
    if colon and scheme in _LATER:
        raise DeviceError(f"{url}: this version of edgekit does not speak {scheme} yet; use local:")
    raise ConfigError(f"'{url}' is not a device URL{did_you_mean(url, _EXAMPLES)}")

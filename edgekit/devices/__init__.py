"""Devices: the way to one, and what is deployed there."""

from edgekit.devices.deploy import deploy
from edgekit.devices.deployed import DeployedBundle, DeviceRun
from edgekit.devices.opening import LOCAL, check_device, open_device, opened_device
from edgekit.devices.transport import CommandResult, Transport

__all__ = [
    "LOCAL",
    "CommandResult",
    "DeployedBundle",
    "DeviceRun",
    "Transport",
    "check_device",
    "deploy",
    "open_device",
    "opened_device",
]

"""Devices: the way to one, and what is deployed there."""

from edgekit.devices.deploy import DeployedBundle, DeviceRun, deploy
from edgekit.devices.opening import open_device, opened_device
from edgekit.devices.transport import CommandResult, Transport

__all__ = ["CommandResult", "DeployedBundle", "DeviceRun", "Transport", "deploy", "open_device", "opened_device"]

"""How hot a device is, and whether it runs slower for it: what figures taken on it are held against."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.devices.facts import ThermalState, thermal_state
from edgekit.devices.transport import Transport

SEVERE = 2  # Android's thermal status: THERMAL_STATUS_MODERATE, from which it slows down
_COOLS_CPU = re.compile(r"cpufreq|processor|cpu", re.IGNORECASE)


@dataclass(frozen=True)
class Condition:
    """A device at one moment. None: it does not say, or only to root."""

    thermal_status: int | None = None  # Android's, 0 to 6
    temperature_celsius: float | None = None  # of the hottest sensor
    cap_hz: int | None = None  # the sum over the CPUs of the frequency that they may reach
    cpu_cooling: int | None = None  # the sum of the states of what slows the CPU down to cool it; 0 does not
    held_down: bool | None = None  # by its firmware
    governor: str | None = None


def read_condition(device: Transport) -> Condition:
    """Look at a device now. Raises DeviceError."""
    return condition_of(thermal_state(device))


def condition_of(state: ThermalState) -> Condition:
    """What of a device's state decides about figures."""
    cooling = [value for name, value in state.cooling.items() if _COOLS_CPU.search(name)]
    return Condition(
        thermal_status=state.status,
        temperature_celsius=state.hottest_celsius,
        cap_hz=sum(state.caps_hz) or None,
        cpu_cooling=sum(cooling) if cooling else None,
        held_down=state.throttled,
        governor=", ".join(sorted(state.governors)) or None,
    )


def throttled(now: Condition, before: Condition) -> str | None:
    """Why figures taken now cannot be held against figures taken `before`, or None."""
    if now.thermal_status is not None and now.thermal_status >= SEVERE:
        return f"thermal status {now.thermal_status}"
    if now.held_down:
        return "its firmware holds the clock down"
    if now.cap_hz is not None and before.cap_hz is not None and now.cap_hz < before.cap_hz:
        return f"the CPUs may reach {now.cap_hz / before.cap_hz:.0%} of the frequency that they might before"
    if now.cpu_cooling is not None and before.cpu_cooling is not None and now.cpu_cooling > before.cpu_cooling:
        return "the kernel slows the CPU down to cool it"
    return None


def known(condition: Condition) -> Mapping[str, object]:
    """What a device says of it, for a record of figures."""
    return {name: value for name, value in vars(condition).items() if value is not None}

"""How hot a device is, and whether it runs slower for it.

Read by a line of shell, which boards and phones both have. What only root may read is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgekit.devices.transport import Transport

SEVERE = 2  # Android's thermal status: THERMAL_STATUS_MODERATE, from which it slows down
_TIMEOUT_S = 30.0
_COOLS_CPU = re.compile(r"cpufreq|processor|cpu", re.IGNORECASE)
_LEAST_CELSIUS, _MOST_CELSIUS = -50.0, 150.0  # -256 is a sensor that is off
# Words of a line: what it is, the figures, and last the name, which may hold spaces.
_LOOK = """
for zone in /sys/class/thermal/thermal_zone*; do
  temp=$(cat "$zone/temp" 2>/dev/null) && echo "zone $temp $(cat "$zone/type" 2>/dev/null)"
done
for device in /sys/class/thermal/cooling_device*; do
  state=$(cat "$device/cur_state" 2>/dev/null) && echo "cooling $state $(cat "$device/type" 2>/dev/null)"
done
for cpu in /sys/devices/system/cpu/cpu[0-9]*/cpufreq; do
  cap=$(cat "$cpu/scaling_max_freq" 2>/dev/null) && echo "cpu $cap $(cat "$cpu/scaling_governor" 2>/dev/null)"
done
command -v dumpsys >/dev/null 2>&1 && dumpsys thermalservice 2>/dev/null | sed -n 's/^ *Thermal Status: /status /p'
true
"""


@dataclass(frozen=True)
class Condition:
    """A device at one moment."""

    thermal_status: int | None = None  # Android's, 0 to 6
    temperature_celsius: float | None = None  # of the hottest sensor
    cap_khz: int | None = None  # the sum over the CPUs of the frequency that they may reach
    cpu_cooling: int | None = None  # the sum of the states of what slows the CPU down to cool it; 0 does not
    governor: str | None = None


def read_condition(device: Transport) -> Condition:
    """Look at a device now. Raises DeviceError."""
    return parse_condition(device.run(["sh", "-c", _LOOK], timeout_s=_TIMEOUT_S).stdout)


def parse_condition(text: str) -> Condition:
    """What the line of shell printed; a line that says nothing is left out."""
    seen: dict[str, list[tuple[int, str]]] = {}
    for kind, value, name in _lines(text):
        seen.setdefault(kind, []).append((value, name))
    hot = [value / 1000 for value, _ in seen.get("zone", ())]
    hot = [celsius for celsius in hot if _LEAST_CELSIUS < celsius < _MOST_CELSIUS]
    cooling = [value for value, name in seen.get("cooling", ()) if _COOLS_CPU.search(name)]
    cpus = seen.get("cpu", ())
    return Condition(
        thermal_status=seen["status"][0][0] if "status" in seen else None,
        temperature_celsius=max(hot, default=None),
        cap_khz=sum(value for value, _ in cpus) or None,
        cpu_cooling=sum(cooling) if cooling else None,
        governor=", ".join(sorted({name for _, name in cpus if name})) or None,
    )


def throttled(now: Condition, before: Condition) -> str | None:
    """Why figures taken now cannot be held against figures taken `before`, or None."""
    if now.thermal_status is not None and now.thermal_status >= SEVERE:
        return f"thermal status {now.thermal_status}"
    if now.cap_khz is not None and before.cap_khz is not None and now.cap_khz < before.cap_khz:
        return f"the CPUs may reach {now.cap_khz / before.cap_khz:.0%} of the frequency that they might before"
    if now.cpu_cooling is not None and before.cpu_cooling is not None and now.cpu_cooling > before.cpu_cooling:
        return "the kernel slows the CPU down to cool it"
    return None


def facts(condition: Condition) -> Mapping[str, object]:
    """What is known of it, for a record of figures."""
    return {name: value for name, value in vars(condition).items() if value is not None}


def _lines(text: str) -> Iterator[tuple[str, int, str]]:
    for line in text.splitlines():
        words = line.split(maxsplit=2)
        if len(words) >= 2 and words[1].lstrip("-").isdigit():
            yield words[0], int(words[1]), words[2] if len(words) > 2 else ""

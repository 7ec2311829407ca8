from __future__ import annotations

import pytest

from edgekit.devices.conditions import Condition, facts, parse_condition, read_condition, throttled
from edgekit.devices.local import LocalTransport

# As the line of shell prints it on a phone and on a board whose sensors are partly off.
PHONE = """zone 41250 cpu-0-0-usr
zone 30100 battery
cooling 0 thermal-cpufreq-0
cooling 4 thermal-cpufreq-4
cooling 200 lcd_bl
cpu 1804800 schedutil
cpu 2841600 schedutil\r
status 1
"""
JETSON = """zone -256000 gpu-thermal
zone 48187 tj thermal
zone
cooling 0 cpufreq-cpu0
cpu 1510400 schedutil
cpu 1510400 performance
"""


def test_a_phone() -> None:
    assert parse_condition(PHONE) == Condition(1, 41.25, 4646400, 4, "schedutil")


def test_a_board_with_a_sensor_that_is_off() -> None:
    assert parse_condition(JETSON) == Condition(None, 48.187, 3020800, 0, "performance, schedutil")


@pytest.mark.parametrize("text", ["", "noise\nzone x y\n", "error: closed\n"])
def test_what_says_nothing(text: str) -> None:
    assert parse_condition(text) == Condition()
    assert facts(parse_condition(text)) == {}


def test_this_machine(local_device: LocalTransport) -> None:
    assert isinstance(read_condition(local_device), Condition)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (Condition(), None),
        (Condition(thermal_status=1), None),
        (Condition(thermal_status=2), "thermal status 2"),
        (Condition(cap_khz=3000), "the CPUs may reach 75% of the frequency"),
        (Condition(cap_khz=4000), None),
        (Condition(cpu_cooling=1), "the kernel slows the CPU down to cool it"),
        (Condition(temperature_celsius=90), None),  # hot, and not slower for it
    ],
)
def test_throttled(now: Condition, reason: str | None) -> None:
    found = throttled(now, Condition(cap_khz=4000, cpu_cooling=0))
    assert (found is None) if reason is None else (found or "").startswith(reason)

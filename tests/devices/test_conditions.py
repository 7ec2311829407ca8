from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edgekit.devices.conditions import Condition, condition_of, known, read_condition, throttled
from edgekit.devices.facts import parse_facts
from edgekit.devices.local import LocalTransport
from edgekit.devices.transport import CommandResult, Heard, unheard
from edgekit.gate import Guard

# As facts.sh prints it on a phone and on a board whose sensors are partly off.
PHONE = """
@@ thermal
cpu-0-0-usr 41250
battery 30100
@@ cooling
thermal-cpufreq-0 0
thermal-cpufreq-4 4
lcd_bl 200
@@ cpufreq
cpu0 scaling_governor schedutil
cpu0 scaling_max_freq 1804800
cpu4 scaling_governor schedutil
cpu4 scaling_max_freq 2841600\r
@@ thermalservice
Thermal Status: 1
"""
JETSON = """
@@ thermal
gpu-thermal -256000
tj thermal 48187
@@ cooling
cpufreq-cpu0 0
@@ cpufreq
cpu0 scaling_governor schedutil
cpu0 scaling_max_freq 1510400
cpu1 scaling_governor performance
cpu1 scaling_max_freq 1510400
@@ vcgencmd
throttled=0x50000
"""


class Sysfs(LocalTransport):
    """This machine, and a tree of files for its /sys."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.sys = root

    def run(self, argv: Sequence[str], *, timeout_s: float, heard: Heard = unheard) -> CommandResult:
        words = [word.replace("/sys/", f"{self.sys}/") for word in argv]
        return super().run(words, timeout_s=timeout_s, heard=heard)

    def write(self, path: str, value: object) -> None:
        file = self.sys / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")


def condition(text: str) -> Condition:
    return condition_of(parse_facts(text).state)


def test_a_phone() -> None:
    assert condition(PHONE) == Condition(1, 41.25, 4_646_400_000, 4, None, "schedutil")


def test_a_board_with_a_sensor_that_is_off() -> None:
    assert condition(JETSON) == Condition(None, 48.187, 3_020_800_000, 0, False, "performance, schedutil")


@pytest.mark.parametrize("text", ["", "noise\n@@ thermal\nx y\n@@ cooling\nz\n", "error: closed\n"])
def test_what_says_nothing(text: str) -> None:
    assert condition(text) == Condition()
    assert known(condition(text)) == {}


def test_this_machine(local_device: LocalTransport) -> None:
    assert isinstance(read_condition(local_device), Condition)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (Condition(), None),
        (Condition(thermal_status=1), None),
        (Condition(thermal_status=2), "thermal status 2"),
        (Condition(held_down=False), None),
        (Condition(held_down=True), "its firmware holds the clock down"),
        (Condition(cap_hz=3000), "the CPUs may reach 75% of the frequency"),
        (Condition(cap_hz=4000), None),
        (Condition(cpu_cooling=1), "the kernel slows the CPU down to cool it"),
        (Condition(temperature_celsius=90), None),  # hot, and not slower for it
    ],
)
def test_throttled(now: Condition, reason: str | None) -> None:
    found = throttled(now, Condition(cap_hz=4000, cpu_cooling=0))
    assert (found is None) if reason is None else (found or "").startswith(reason)


def test_a_board_that_heats_up_and_cools_down(tmp_path: Path) -> None:
    """The whole way of a reading: files as the kernel shows them, the script, its parser, the guard."""
    board = Sysfs(tmp_path)
    board.write("class/thermal/thermal_zone0/type", "cpu-thermal")
    board.write("class/thermal/cooling_device0/type", "cpufreq-cpu0")
    board.write("devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance")

    def heat(celsius: int, cooling: int, cap_khz: int) -> None:
        board.write("class/thermal/thermal_zone0/temp", celsius * 1000)
        board.write("class/thermal/cooling_device0/cur_state", cooling)
        board.write("devices/system/cpu/cpu0/cpufreq/scaling_max_freq", cap_khz)

    told: list[str] = []
    heat(50, 0, 2_400_000)
    steps = iter([lambda: heat(80, 2, 2_400_000), lambda: heat(55, 0, 2_400_000)])
    guard = Guard(lambda: read_condition(board), sleep=lambda _: next(steps)(), progress=told.append)
    assert guard.start == Condition(None, 50, 2_400_000_000, 0, None, "performance")
    heat(85, 0, 1_200_000)
    assert guard.trouble_since()[1] == "the CPUs may reach 50% of the frequency that they might before"
    assert guard.wait_until_cool().temperature_celsius == 55
    assert [text.partition(":")[0] for text in told] == [
        "the CPUs may reach 50% of the frequency that they might before",
        "the kernel slows the CPU down to cool it",
    ]
    board.close()

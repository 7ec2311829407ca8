"""What boards and phones say of themselves, read. Text in, values out; what is not there or not readable is None.

Sources: NVIDIA's Jetson Linux Developer Guide (nv_tegra_release, nvpmodel, tegrastats), the kernel's documentation
(device tree, thermal and cpufreq in sysfs, /proc), Android's dumpsys and PowerManager, Raspberry Pi's vcgencmd.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_ABSENT_CELSIUS = -200.0  # a Jetson's sensor that is off says -256
_SECTION = "@@ "
_CAPPED_NOW = 0b1110  # of vcgencmd's bits: frequency capped, throttled, soft temperature limit; now, not "has occurred"


def sections(text: str) -> dict[str, str]:
    """The parts of facts.sh's output by their names; carriage returns of a terminal are dropped."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").splitlines():
        if line.startswith(_SECTION):
            lines = found.setdefault(line.removeprefix(_SECTION), [])
        else:
            lines.append(line)
    return {name: "\n".join(part).strip("\n") for name, part in found.items()}


def texts(text: str) -> tuple[str, ...]:
    """A device tree's texts, which NULs end."""
    return tuple(word for word in re.split(r"[\0\n]", text) if word)


def fields(text: str, mark: str = ":") -> dict[str, str]:
    """`name: value` lines, or `NAME="value"` with another mark; of a name that comes again, the first."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, split, value = line.partition(mark)
        if split:
            found.setdefault(name.strip(), value.strip().strip("\"'"))
    return found


def l4t(text: str) -> str | None:
    """Jetson Linux's version, "36.4.3", of `# R36 (release), REVISION: 4.3, GCID: …`."""
    match = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text)
    return f"{match[1]}.{match[2]}" if match else None


def power_mode(text: str) -> str | None:
    """ "15W" of nvpmodel's `NV Power Mode: 15W`, older ones `MODE_15W`."""
    match = re.search(r"NV Power Mode\s*:\s*(\S+)", text)
    return match[1].removeprefix("MODE_") if match else None


def temperatures(text: str) -> dict[str, float]:
    """Degrees Celsius by zone, of `type millidegrees` lines; sensors that are off or lie are left out."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        celsius = _number(value)
        if name and celsius is not None and _plausible(celsius / 1000):
            found[_fresh(name, found)] = celsius / 1000
    return found


def cooling(text: str) -> dict[str, int]:
    """How much each of the kernel's cooling devices does, 0 nothing, of `type state` lines."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, state = line.rpartition(" ")
        if name and state.isdigit():
            found[_fresh(name, found)] = int(state)
    return found


def tegrastats(text: str) -> dict[str, float]:
    """Degrees Celsius and milliwatts by name, of the last line; by token, since fields come and go between releases."""
    line = (text.strip().splitlines() or [""])[-1]
    found = {}
    for name, celsius in re.findall(r"(\S+)@(-?[\d.]+)C\b", line):
        if _plausible(float(celsius)):
            found[f"{name.lower()}_celsius"] = float(celsius)
    for name, milliwatts in re.findall(r"((?:VDD|VIN|POM|CPU|GPU|SOC)\w*) (\d+)(?:mW)?/\d+(?:mW)?", line):
        found[f"{name.lower()}_mw"] = float(milliwatts)
    return found


def frequencies(text: str) -> dict[str, dict[str, str]]:
    """What cpufreq says of each CPU: `cpu0 scaling_governor schedutil` -> {"cpu0": {"scaling_governor": …}}."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            found.setdefault(words[0], {})[words[1]] = words[2]
    return found


def hertz(kilohertz: str | None) -> int | None:
    """cpufreq's numbers are in kHz."""
    number = _number(kilohertz or "")
    return None if number is None else int(number * 1000)


def thermal_status(text: str) -> int | None:
    """Android's, 0 (none) to 6 (shutdown), of dumpsys thermalservice; unknown where the HAL is not ready."""
    match = re.search(r"Thermal Status:\s*(\d+)", text)
    return int(match[1]) if match and "HAL Ready: false" not in text else None


def battery_celsius(text: str) -> float | None:
    """Of dumpsys battery, which counts tenths of a degree."""
    match = re.search(r"^\s*temperature:\s*(-?\d+)\s*$", text, re.MULTILINE)
    return int(match[1]) / 10 if match else None


def throttled(text: str) -> bool | None:
    """Whether a Raspberry Pi's firmware holds its clock down now, of `throttled=0x50005`."""
    match = re.search(r"throttled=0x([0-9a-fA-F]+)", text)
    return bool(int(match[1], 16) & _CAPPED_NOW) if match else None


def properties(text: str) -> dict[str, str]:
    """Android's, of getprop's `[name]: [value]` lines."""
    return dict(re.findall(r"^\[([^\]]+)\]: \[(.*)\]$", text, re.MULTILINE))


def storage(text: str) -> tuple[int, int] | None:
    """Bytes of the file system and bytes free, of `df -Pk`."""
    match = re.search(r"\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%\s", f"{text}\n")
    return (int(match[1]) << 10, int(match[3]) << 10) if match else None


def kibibytes(text: str | None) -> int | None:
    """Bytes of `8046396 kB`."""
    match = re.fullmatch(r"(\d+) kB", text or "")
    return int(match[1]) << 10 if match else None


def installed(text: str) -> dict[str, str]:
    """Debian's packages and versions, of `name version` lines; those that are known but not installed have none."""
    words = [line.split() for line in text.splitlines()]
    return {pair[0]: pair[1] for pair in words if len(pair) == 2}


def upstream(version: str) -> str:
    """ "10.3.0" of Debian's `10.3.0.30-1+cuda12.5`, "6.2" of `6.2+b77`."""
    return ".".join(re.split(r"[-+~]", version)[0].split(".")[:3])


def gpus(text: str) -> tuple[str, ...]:
    """Names of `nvidia-smi -L`."""
    return tuple(re.findall(r"^GPU \d+: (.+?) \(UUID", text, re.MULTILINE))


def by_number(names: Mapping[str, object]) -> list[str]:
    """cpu2 before cpu10."""
    return sorted(names, key=lambda name: (len(name), name))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _plausible(celsius: float) -> bool:
    return _ABSENT_CELSIUS < celsius < -_ABSENT_CELSIUS


def _fresh(name: str, taken: Mapping[str, object]) -> str:
    """Several zones may have one type."""
    count = 2
    fresh = name
    while fresh in taken:
        fresh, count = f"{name}-{count}", count + 1
    return fresh

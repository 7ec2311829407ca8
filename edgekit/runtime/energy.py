"""What a board's own meters say: energy over a stretch of time. Read from files alone; without a meter, None.

RAPL counts microjoules of an x86 package (Documentation/power/powercap of Linux), where it may be read. The INA3221 of
a Jetson (its total rail VDD_IN, or the first that is called so) and the battery of a phone or laptop give power, which
is sampled here and summed by the trapezoidal rule.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter

ROOT = Path("/sys")
SAMPLE_S = 0.05
_TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "5V_IN")


@dataclass(frozen=True)
class Energy:
    """What the whole meter saw, other work on the machine included."""

    joules: float
    seconds: float
    meter: str  # "RAPL package-0"
    samples: int | None  # of power; None where the meter counts energy itself


def measure_energy(work: Callable[[], object], root: Path = ROOT) -> Energy | None:
    """Do `work`, and say what it took; None where nothing here can be read. `work` is done in any case, once."""
    for find in (_rapl, _jetson, _battery):
        meter = find(root)
        if meter is not None:
            return meter.measure(work)
    work()
    return None


@dataclass(frozen=True)
class _Counters:
    """Counters of microjoules, which wrap around."""

    name: str
    files: tuple[tuple[Path, int], ...]  # each with its largest value

    def measure(self, work: Callable[[], object]) -> Energy:
        start, before = perf_counter(), [_number(path) for path, _ in self.files]
        work()
        after, seconds = [_number(path) for path, _ in self.files], perf_counter() - start
        used = sum((end - begin) % (most + 1) for begin, end, (_, most) in zip(before, after, self.files, strict=True))
        return Energy(used / 1e6, seconds, self.name, None)


@dataclass(frozen=True)
class _Power:
    """A meter of watts."""

    name: str
    watts: Callable[[], float]

    def measure(self, work: Callable[[], object]) -> Energy:
        points: list[tuple[float, float]] = []
        ended = threading.Event()

        def sample() -> None:
            while True:
                with suppress(OSError, ValueError):  # one reading less
                    points.append((perf_counter(), self.watts()))
                if ended.wait(SAMPLE_S):
                    return

        thread = threading.Thread(target=sample, name="edgekit energy", daemon=True)
        start = perf_counter()
        thread.start()
        try:
            work()
        finally:
            seconds = perf_counter() - start
            ended.set()
            thread.join()
        with suppress(OSError, ValueError):
            points.append((perf_counter(), self.watts()))
        return Energy(_area(points, seconds), seconds, self.name, len(points))


def _area(points: list[tuple[float, float]], seconds: float) -> float:
    """Joules of `seconds`, by the mean power between the first and last reading."""
    pairs = list(pairwise(points))
    span = sum(after[0] - before[0] for before, after in pairs)
    if not span:
        return points[0][1] * seconds if points else float("nan")
    joules = sum((after[0] - before[0]) * (before[1] + after[1]) / 2 for before, after in pairs)
    return joules / span * seconds


def _rapl(root: Path) -> _Counters | None:
    """The packages, without their parts (`intel-rapl:0:0`); AMD's have the same names."""
    files = []
    for folder in sorted(root.glob("class/powercap/intel-rapl:*")):
        if folder.name.count(":") == 1:
            with suppress(OSError, ValueError):  # since 2020, root alone may read it
                _number(folder / "energy_uj")
                files.append((folder / "energy_uj", int(_number(folder / "max_energy_range_uj"))))
    return _Counters(f"RAPL, {len(files)} package(s)", tuple(files)) if files else None


def _jetson(root: Path) -> _Power | None:
    found: dict[str, Callable[[], float]] = {}
    for label in sorted(root.glob("bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label")):
        channel = label.name[len("in") : -len("_label")]
        files = (label.with_name(f"in{channel}_input"), label.with_name(f"curr{channel}_input"))
        with suppress(OSError, ValueError):
            found.setdefault(label.read_text().strip(), _product(*files, 1e-6))()
    rail = next((rail for rail in _TOTAL_RAILS if rail in found), None)
    return None if rail is None else _Power(f"INA3221 {rail}", found[rail])


def _battery(root: Path) -> _Power | None:
    """Where it discharges; what a charger brings is not seen."""
    for folder in sorted(root.glob("class/power_supply/*")):
        with suppress(OSError, ValueError):
            discharging = (folder / "status").read_text().strip() == "Discharging"
            if (folder / "type").read_text().strip() == "Battery" and discharging:
                watts = _product(folder / "voltage_now", folder / "current_now", 1e-12)
                watts()
                return _Power(f"battery {folder.name}", watts)
    return None


def _product(volts: Path, amperes: Path, unit: float) -> Callable[[], float]:
    return lambda: abs(_number(volts) * _number(amperes)) * unit


def _number(path: Path) -> float:
    return float(path.read_text())

"""The floor of each device, as A/A measured it, in a file of its own."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from edgekit.errors import ConfigError
from edgekit.files import write_text
from edgekit.gate.running import Calibration
from edgekit.gate.statistics import LEAST_FLOOR
from edgekit.places import data_folder
from edgekit.strict import parse


@dataclass(frozen=True)
class Floor:
    """What two equal bundles may differ by on a device."""

    device: str  # its URL
    floor: float  # a fraction: 0.02 is 2 %
    bundle: str  # that measured it
    variant: str
    pairs: int
    measured: str  # when, ISO 8601 in UTC

    def __str__(self) -> str:
        return f"by A/A with {self.bundle} ({self.variant}) at {self.measured}"


def save_floor(device: str, found: Calibration) -> Floor:
    """Keep it for the gates to come. Raises OutputError."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    made = Floor(device, found.floor, found.bundle, found.variant, found.pairs, now)
    write_text(_path(device), json.dumps(asdict(made), indent=1) + "\n")
    return made


def find_floor(device: str) -> Floor | None:
    """What was kept, or None. Raises ConfigError on a file that is none of ours."""
    path = _path(device)
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise ConfigError(f"{path}: no floor of a device ({problem}): remove it, and calibrate again") from problem
    found = parse(Floor, parsed, where=str(path))
    if found.floor < LEAST_FLOOR:
        raise ConfigError(f"{path}: floor is {found.floor}, expected {LEAST_FLOOR} or more: calibrate again")
    return found


def _path(device: str) -> Path:
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", device)[:60]
    return data_folder() / "floors" / f"{slug}-{hashlib.sha256(device.encode()).hexdigest()[:8]}.json"

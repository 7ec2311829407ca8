"""A bundle installed on a device: tried there first, then made current in one step, and taken back as easily."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices import installer
from edgekit.devices.deployed import DeployedBundle
from edgekit.devices.pushing import push_by_content
from edgekit.devices.transport import Transport, checked
from edgekit.errors import BundleError, DeviceError
from edgekit.strict import parse

FOLDER = "models"
KEEP = 2  # versions beside the current one and the one before

_TIMEOUT_S = 120.0
_SHA_DIGITS = 12


@dataclass(frozen=True)
class Installed:
    """What a device has of one model."""

    folder: str  # on the device: `current` in it is the version that runs
    current: str | None
    previous: str | None  # what a rollback goes back to
    versions: tuple[str, ...]  # the oldest first


@dataclass(frozen=True)
class _Reply:
    current: str | None
    previous: str | None
    versions: tuple[str, ...]
    problem: str | None


def install(deployed: DeployedBundle, *, keep: int = KEEP) -> Installed:
    """Hold a deployed bundle to its golden outputs on the device, and make it current there.

    Raises BundleError, and changes nothing, when a variant is off; EngineError when none of them runs; DeviceError.
    """
    name = deployed.manifest.name
    deployed.golden()  # the best that runs there must: an EngineError says what to install
    off = [result.variant for result in deployed.golden(every=True).results if not result.passed]
    if off:
        raise BundleError(
            f"{deployed.device.url}: {', '.join(off)} of {name} {deployed.manifest.version} is off its golden outputs "
            "there; the version before stays: edgekit test says more"
        )
    version = f"{deployed.manifest.version}-{deployed.sha256[:_SHA_DIGITS]}"
    files = [word for pair in deployed.installed.items() for word in pair]
    return _ask(deployed.device, name, "install", version, str(keep), *files)


def roll_back(device: Transport, name: str) -> Installed:
    """Make the version before current. Raises DeviceError where there is none."""
    return _ask(device, name, "rollback")


def _ask(device: Transport, name: str, verb: str, *words: str) -> Installed:
    folder, source = f"{FOLDER}/{name}", Path(installer.__file__)
    program = device.python or "sh"
    script = push_by_content(device, source if device.python else source.with_suffix(".sh"))
    result = checked(device, [program, script, verb, folder, *words], timeout_s=_TIMEOUT_S)
    said = json.loads(result.stdout) if device.python else read_lines(result.stdout)
    reply = parse(_Reply, said, where=f"{device.url} {verb}", error=DeviceError)
    if reply.problem is not None:
        raise DeviceError(f"{device.url}: {reply.problem} of '{name}': nothing was changed")
    return Installed(folder, reply.current, reply.previous, reply.versions)


def read_lines(text: str) -> dict[str, object]:
    """What installer.sh says, as installer.py says it."""
    found: dict[str, object] = {"current": None, "previous": None, "problem": None}
    versions: list[str] = []
    for line in text.splitlines():
        word, _, name = line.partition(" ")
        if word == "version":
            versions.append(name)
        else:
            found[word] = name
    return {**found, "versions": versions}

"""Wheels of the user's own brought along to a device that lacks numpy or an engine. Nothing is installed there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from edgekit.devices import unpacker
from edgekit.devices.facts import DeviceFacts, PythonFacts, probe_facts
from edgekit.devices.pushing import push_all
from edgekit.devices.transport import Transport, checked
from edgekit.errors import ConfigError, DeviceError

_UNPACK_S = 600.0
_OLDEST_GLIBC_MINOR = 5  # of manylinux1


def push_wheels(device: Transport, folder: Path) -> tuple[str, ...]:
    """Push the wheels of `folder` that fit the device, the newest of each package; returns the PYTHONPATH's entries.

    They lie there under their hashes, versions side by side. Raises ConfigError when none fits, DeviceError.
    """
    if not folder.is_dir():
        raise ConfigError(f"--vendor-wheels: {folder} is no folder of wheels")
    if device.python is None:
        raise ConfigError(f"--vendor-wheels: {device.url} has no Python to import them, and runs without; leave it out")
    facts = probe_facts(device)
    if facts.python is None:
        raise DeviceError(f"{device.url}: '{device.python}' does not start there; name another: ?python=PATH")
    chosen = choose_wheels(folder, facts.python, facts.machine or "unknown")
    if not chosen:
        raise ConfigError(f"--vendor-wheels: no wheel in {folder} fits {device.url}: {download_line(facts)}")
    script, *remote = push_all(device, [Path(unpacker.__file__), *chosen])
    done = checked(device, [device.python, script, *remote], timeout_s=_UNPACK_S)
    return tuple(str(place) for place in json.loads(done.stdout)["folders"])


def choose_wheels(folder: Path, python: PythonFacts, machine: str) -> list[Path]:
    """The newest wheel of each package that a Python on a machine can import, by their names (PEP 425, PEP 600).

    A tag may promise more than its file holds: ai-edge-litert 2.3.0 is tagged glibc 2.27 and needs 2.34.
    """
    from packaging.tags import compatible_tags, cpython_tags
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    version = tuple(int(part) for part in python.version.split(".")[:2])
    platforms = list(_platforms(python.libc, machine))
    fitting = {*cpython_tags(version, platforms=platforms), *compatible_tags(version, platforms=platforms)}
    best: dict[str, tuple[object, Path]] = {}
    for path in sorted(folder.glob("*.whl")):
        try:
            name, number, build, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename as problem:
            raise ConfigError(f"--vendor-wheels: {path}: {problem}") from problem
        rank = (number, build)
        if tags & fitting and (name not in best or rank > best[name][0]):  # type: ignore[operator]
            best[name] = (rank, path)
    return [path for _, path in best.values()]


def download_line(facts: DeviceFacts, packages: tuple[str, ...] = ("numpy", "ai-edge-litert")) -> str:
    """The command that fills such a folder for a device."""
    python = "3.10" if facts.python is None else ".".join(facts.python.version.split(".")[:2])
    machine = facts.machine or "aarch64"
    platforms = " ".join(f"--platform manylinux_2_{minor}_{machine}" for minor in (28, 27, 17))
    return f"pip download --only-binary=:all: {platforms} --python-version {python} -d DIR {' '.join(packages)}"


def _platforms(libc: tuple[str, ...], machine: str) -> Iterator[str]:
    """Of a glibc, every manylinux up to its own."""
    if len(libc) == 2 and libc[0] == "glibc":
        for minor in range(int(libc[1].split(".")[1]), _OLDEST_GLIBC_MINOR - 1, -1):
            yield f"manylinux_2_{minor}_{machine}"
            if minor == 17:
                yield f"manylinux2014_{machine}"
    yield f"linux_{machine}"

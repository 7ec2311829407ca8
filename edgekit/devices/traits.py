"""What tests may ask of a device: engines, accelerators, memory, and whether its times mean anything."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.devices.local import is_local
from edgekit.devices.transport import Transport
from edgekit.runtime.engines import TENSORRT
from edgekit.runtime.survey import Probe

_TIMEOUT_S = 30.0
_MIB = 1 << 20
# The kernel of a QEMU board shows its fw-cfg device, qemu-user shows the host's CPU, and Android's emulator says so.
_LOOK = """
echo "machine $(uname -m)"
sed -n 's/^MemTotal: *\\([0-9]*\\) kB/memory_kib \\1/p' /proc/meminfo 2>/dev/null
df -Pk . 2>/dev/null | awk 'NR == 2 {print "storage_kib " $4}'
sed -n 's/^vendor_id[^A-Za-z]*/vendor /p' /proc/cpuinfo 2>/dev/null | head -n 1
tr '\\0' ' ' < /proc/device-tree/model 2>/dev/null | sed 's/^/model /; s/$/\\n/'
ls -d /proc/device-tree/fw-cfg* >/dev/null 2>&1 && echo "qemu fw-cfg"
command -v getprop >/dev/null 2>&1 && [ "$(getprop ro.boot.qemu)$(getprop ro.kernel.qemu)" ] && echo "qemu android"
true
"""
_ARM = ("aarch64", "arm64", "armv7l", "armv8l")


@dataclass(frozen=True)
class Traits:
    """A device, as `needs(...)` and `latency` see it."""

    engines: tuple[str, ...]  # installed, and usable there
    accelerators: tuple[str, ...]  # "cpu", "gpu"
    machine: str  # "aarch64"
    memory_mib: int | None  # in all; None where it cannot be read
    storage_mib: int | None  # free
    model: str | None  # what the device tree says
    emulated: str | None  # why its times say nothing of a device, or None
    simulated: str | None  # why it is no device of its own, or None


def read_traits(device: Transport, probe: Probe) -> Traits:
    """Look at a device. Raises DeviceError."""
    told = device.run(["sh", "-c", _LOOK], timeout_s=_TIMEOUT_S).stdout
    return make_traits(device.url, probe, told)


def make_traits(url: str, probe: Probe, told: str) -> Traits:
    """From the runtime's probe and what the line of shell printed."""
    facts = dict[str, str]()
    for line in told.splitlines():
        name, _, value = line.strip().partition(" ")
        facts.setdefault(name, value.strip())
    engines = tuple(engine.name for engine in probe.engines if engine.version is not None and engine.unusable is None)
    machine = facts.get("machine", probe.machine)
    emulated = _emulated(machine, facts)
    return Traits(
        engines=engines,
        accelerators=("cpu", "gpu") if TENSORRT in engines else ("cpu",),
        machine=machine,
        memory_mib=_mib(facts.get("memory_kib")),
        storage_mib=_mib(facts.get("storage_kib")),
        model=facts.get("model") or None,
        emulated=emulated,
        simulated=f"{url} is this machine" if is_local(url) else emulated,
    )


def _emulated(machine: str, facts: dict[str, str]) -> str | None:
    if facts.get("qemu") == "android":
        return "it is Android's emulator"
    if "qemu" in facts or "virtual" in facts.get("model", "").lower():
        return "it is a virtual board under QEMU"
    if machine in _ARM and "vendor" in facts:  # an x86's word
        return "its programs run under qemu-user"
    return None


def _mib(kib: str | None) -> int | None:
    return int(kib) * 1024 // _MIB if kib and kib.isdigit() else None

"""What tests may ask of a device: engines, accelerators, memory, and whether its times mean anything."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.devices.facts import DeviceFacts, probe_facts
from edgekit.devices.local import is_local
from edgekit.devices.transport import Transport
from edgekit.runtime.engines import TENSORRT
from edgekit.runtime.survey import Probe

_MIB = 1 << 20


@dataclass(frozen=True)
class Traits:
    """A device, as `needs(...)` and `latency` see it."""

    engines: tuple[str, ...]  # installed, and usable there
    accelerators: tuple[str, ...]  # "cpu", "gpu"
    machine: str  # "aarch64"
    memory_mib: int | None  # in all; None where it cannot be read
    storage_mib: int | None  # free
    model: str | None  # what the device says that it is
    emulated: str | None  # why its times say nothing of a device, or None
    simulated: str | None  # why it is no device of its own, or None


def read_traits(device: Transport, probe: Probe) -> Traits:
    """Look at a device. Raises DeviceError."""
    return make_traits(device.url, probe, probe_facts(device))


def make_traits(url: str, probe: Probe, facts: DeviceFacts) -> Traits:
    """From the runtime's probe and what the device is."""
    engines = tuple(engine.name for engine in probe.engines if engine.version is not None and engine.unusable is None)
    return Traits(
        engines=engines,
        accelerators=("cpu", "gpu") if TENSORRT in engines else ("cpu",),
        machine=facts.machine or probe.machine,
        memory_mib=_mib(facts.memory_bytes),
        storage_mib=_mib(facts.storage_free_bytes),
        model=facts.model,
        emulated=facts.emulated,
        simulated=f"{url} is this machine" if is_local(url) else facts.emulated,
    )


def _mib(size: int | None) -> int | None:
    return None if size is None else size // _MIB

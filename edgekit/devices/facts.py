"""What a device is and in what state, by one command there: a shell's, so that it takes no Python.

Engines are another question, which the runtime answers on the device (`edgekit.runtime.survey.probe`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files

from edgekit.devices import readings
from edgekit.devices.transport import Transport, checked
from edgekit.errors import ConfigError
from edgekit.jetpacks import load_jetpacks

PROBE_S = 60.0
VIRTUAL = "linux,dummy-virt"  # QEMU's own board, whatever its model says
_ARM = ("aarch64", "arm64", "armv7l", "armv8l")

_NODES: Mapping[str, str] = {  # of /dev -> what it stands for
    "nvidia0": "NVIDIA GPU", "nvhost-gpu": "Tegra GPU", "nvgpu": "Tegra GPU", "nvhost-nvdla0": "NVIDIA DLA",
    "apex_0": "Coral Edge TPU", "hailo0": "Hailo", "kgsl-3d0": "Adreno GPU", "mali0": "Mali GPU",
    "rknpu": "Rockchip NPU", "accel/accel0": "accelerator (/dev/accel)",
}  # fmt: skip


@dataclass(frozen=True)
class ThermalState:
    """How warm and how fast a device is now. None and empty: it does not say."""

    temperatures_celsius: Mapping[str, float]  # by zone
    status: int | None  # Android's: 0 none, 1 light, 2 moderate, … 6 shutdown
    throttled: bool | None  # its firmware says that it holds the clock down
    battery_celsius: float | None
    power_mode: str | None
    governors: tuple[str, ...]  # of all CPUs, each once
    frequencies_hz: tuple[int, ...]  # now, CPU by CPU
    caps_hz: tuple[int, ...]  # what each may reach now
    limits_hz: tuple[int, ...]  # what each can do
    cooling: Mapping[str, int]  # by cooling device of the kernel: how much it does, 0 nothing

    @property
    def hottest_celsius(self) -> float | None:
        """Of all zones."""
        return max(self.temperatures_celsius.values(), default=None)


@dataclass(frozen=True)
class PythonFacts:
    """The Python that runs edgekit's runtime there."""

    version: str
    implementation: str
    libc: tuple[str, ...]  # ("glibc", "2.36")
    packages: Mapping[str, str]  # numpy and the engines that are installed -> version


@dataclass(frozen=True)
class DeviceFacts:
    """One device. None: it does not say, or may not be read."""

    model: str | None
    soc: str | None
    os: str | None
    kernel: str | None
    machine: str | None  # "aarch64"
    cpus: int | None
    cpu_features: tuple[str, ...]
    memory_bytes: int | None
    memory_available_bytes: int | None
    storage_bytes: int | None  # of the file system that holds the device's folder
    storage_free_bytes: int | None
    l4t: str | None
    jetpack: str | None
    tensorrt: str | None
    raspberry_pi_os: bool
    accelerators: tuple[str, ...]
    tegrastats: Mapping[str, float]
    state: ThermalState
    python: PythonFacts | None
    emulated: str | None  # why its outputs may be right and its times say nothing, or None
    os_id: Mapping[str, str] = field(default_factory=dict)  # ID and VERSION_ID of os-release


def probe_facts(device: Transport) -> DeviceFacts:
    """Ask a device what it is. Raises DeviceError."""
    return parse_facts(_ask(device, "all"))


def check_times_mean_something(device: Transport) -> None:
    """Raise ConfigError for a device that is emulated; DeviceError."""
    emulated = probe_facts(device).emulated
    if emulated is not None:
        raise ConfigError(f"{device.url}: {emulated}, so no latency of it says anything about a real device")


def thermal_state(device: Transport) -> ThermalState:
    """Ask for what changes while it works: quicker than all facts. Raises DeviceError."""
    return _state(readings.sections(_ask(device, "state")))


def _ask(device: Transport, what: str) -> str:
    script = files("edgekit.devices").joinpath("facts.sh").read_text(encoding="utf-8")
    return checked(device, ["sh", "-c", script, "facts", what, device.python or "python3"], timeout_s=PROBE_S).stdout


def parse_facts(text: str) -> DeviceFacts:
    """From what facts.sh prints."""
    part = dict.fromkeys(("os_release", "cpuinfo", "getprop", "compatible", "packages", "nodes", "uname"), "")
    part |= readings.sections(text)
    android = readings.properties(part["getprop"])
    system, compatible = readings.fields(part["os_release"], "="), readings.texts(part["compatible"])
    memory = readings.fields(part.get("meminfo", ""))
    kernel = part["uname"].split()
    disk = readings.storage(part.get("df", ""))
    release = readings.l4t(part.get("nv_tegra_release", ""))
    packages = readings.installed(part["packages"])
    return DeviceFacts(
        model=_model(part, android),
        soc=_soc(compatible, android),
        os=_os(system, android, raspberry="rpi_issue" in part),
        kernel=" ".join(kernel[:2]) or None,
        machine=kernel[-1] if kernel else None,
        cpus=part["cpuinfo"].count("processor\t:") or None,
        cpu_features=_features(part["cpuinfo"]),
        memory_bytes=readings.kibibytes(memory.get("MemTotal")),
        memory_available_bytes=readings.kibibytes(memory.get("MemAvailable")),
        storage_bytes=disk[0] if disk else None,
        storage_free_bytes=disk[1] if disk else None,
        l4t=release,
        jetpack=_jetpack(packages, release),
        tensorrt=_tensorrt(packages),
        raspberry_pi_os="rpi_issue" in part,
        accelerators=_accelerators(part),
        tegrastats=readings.tegrastats(part.get("tegrastats", "")),
        state=_state(part),
        python=_python(part.get("python", "")),
        emulated=_emulated(part, android, compatible),
        os_id={name: system[name] for name in ("ID", "VERSION_ID") if name in system},
    )


def _state(part: Mapping[str, str]) -> ThermalState:
    cpus = readings.frequencies(part.get("cpufreq", ""))
    inorder = [cpus[name] for name in readings.by_number(cpus)]
    governors = [cpu["scaling_governor"] for cpu in inorder if "scaling_governor" in cpu]
    return ThermalState(
        temperatures_celsius=readings.temperatures(part.get("thermal", "")),
        status=readings.thermal_status(part.get("thermalservice", "")),
        throttled=readings.throttled(part.get("vcgencmd", "")),
        battery_celsius=readings.battery_celsius(part.get("battery", "")),
        power_mode=readings.power_mode(part.get("nvpmodel", "")),
        governors=tuple(dict.fromkeys(governors)),
        frequencies_hz=_each_hz(inorder, "scaling_cur_freq"),
        caps_hz=_each_hz(inorder, "scaling_max_freq"),
        limits_hz=_each_hz(inorder, "cpuinfo_max_freq"),
        cooling=readings.cooling(part.get("cooling", "")),
    )


def _each_hz(cpus: Iterable[Mapping[str, str]], name: str) -> tuple[int, ...]:
    found = (readings.hertz(cpu.get(name)) for cpu in cpus)
    return tuple(value for value in found if value is not None)


def _model(part: Mapping[str, str], android: Mapping[str, str]) -> str | None:
    if "ro.product.model" in android:
        return f"{android.get('ro.product.manufacturer', '')} {android['ro.product.model']}".strip()
    names = readings.texts(part.get("model", "")) or readings.texts(part.get("dmi", ""))
    return names[0] if names else None


def _soc(compatible: tuple[str, ...], android: Mapping[str, str]) -> str | None:
    """A device tree names the chip last; Android before SDK 31 its platform alone."""
    if android:
        named = [android.get(f"ro.soc.{name}", "") for name in ("manufacturer", "model")]
        return " ".join(filter(None, named)) or android.get("ro.board.platform")
    chips = [word for word in compatible if word != VIRTUAL]
    return chips[-1].rpartition(",")[2] if chips else None


def _os(system: Mapping[str, str], android: Mapping[str, str], *, raspberry: bool) -> str | None:
    if "ro.build.version.release" in android:
        sdk = android.get("ro.build.version.sdk", "unknown")
        return f"Android {android['ro.build.version.release']} (SDK {sdk})"
    name = system.get("PRETTY_NAME")
    return f"Raspberry Pi OS, {name}" if raspberry and name else name


def _features(cpuinfo: str) -> tuple[str, ...]:
    found = readings.fields(cpuinfo)
    return tuple(found.get("Features", found.get("flags", "")).split())


def _jetpack(packages: Mapping[str, str], release: str | None) -> str | None:
    """As its package says, else as Jetson Linux's version does: a board may have one without the other."""
    if "nvidia-jetpack" in packages:
        return readings.upstream(packages["nvidia-jetpack"])
    return load_jetpacks().of_l4t(release) if release else None


def _tensorrt(packages: Mapping[str, str]) -> str | None:
    names = [name for name in packages if name == "tensorrt" or name.removeprefix("libnvinfer").isdigit()]
    return readings.upstream(packages[sorted(names)[-1]]) if names else None


def _accelerators(part: Mapping[str, str]) -> tuple[str, ...]:
    named = readings.gpus(part.get("nvidia_smi", ""))
    nodes = [_NODES[node] for node in part["nodes"].split() if node in _NODES and not (named and node == "nvidia0")]
    return tuple(dict.fromkeys([*named, *nodes]))


def _emulated(part: Mapping[str, str], android: Mapping[str, str], compatible: tuple[str, ...]) -> str | None:
    if android.get("ro.boot.qemu") or android.get("ro.kernel.qemu"):
        return "it is Android's emulator"
    if "virtual" in part or VIRTUAL in compatible:
        return "it is a virtual board under QEMU"
    machine = (part["uname"].split() or [""])[-1]
    if machine in _ARM and "vendor_id" in readings.fields(part["cpuinfo"]):  # an x86's word
        return "its programs run under qemu-user"
    return None


def _python(text: str) -> PythonFacts | None:
    try:
        said = json.loads(text)
    except ValueError:
        return None
    libc = tuple(word for word in said["libc"] if word)
    return PythonFacts(said["version"], said["implementation"], libc, said["packages"])
